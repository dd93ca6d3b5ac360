"""The demo as a newcomer meets it: two at once, Ctrl-C in the middle, again in the same folder, nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from gdi.releases.allele_counts.merge import COLUMNS

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]
GDI = str(Path(sys.executable).parent / "gdi")


@pytest.fixture
def folders() -> Iterator[list[Path]]:
    """Two short work folders: unix sockets allow no long paths."""
    made = [Path(tempfile.mkdtemp(prefix="gdi-d")) for _ in range(2)]
    yield made
    for folder in made:
        shutil.rmtree(folder, ignore_errors=True)


def demo(work: Path, log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as out:
        command = [GDI, "demo", "--exit", "--work-dir", str(work), "--json", str(work / "summary.json")]
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )


def of_folder(work: Path) -> list[str]:
    """Processes that have anything to do with the folder: by arguments, working directory or open files."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        if process.pid == os.getpid():
            continue
        try:
            if str(work) in " ".join(process.info["cmdline"] or []) or process.cwd().startswith(str(work)):
                found.append(" ".join(process.info["cmdline"])[:150])
        except psutil.Error:
            continue
    return found


def test_two_demos_at_once_one_interrupted_and_started_again(folders: list[Path], tmp_path: Path) -> None:
    first, second = folders
    logs = [tmp_path / "first.log", tmp_path / "second.log", tmp_path / "again.log"]
    one, two = demo(first, logs[0]), demo(second, logs[1])
    try:
        deadline = time.monotonic() + 500
        while b"count" not in logs[0].read_bytes():
            assert one.poll() is None and time.monotonic() < deadline, logs[0].read_text()
            time.sleep(0.2)
        os.kill(one.pid, signal.SIGINT)
        assert one.wait(60) == 130, logs[0].read_text()
        assert "stopped" in logs[0].read_text()
        assert of_folder(first) == [], "Ctrl-C leaves no process"
        ports = json.loads((first / "federation.json").read_text())["ports"].values()
        assert [p for p in Path("/tmp").glob("seaweedfs-*.sock") if any(str(port) in p.name for port in ports)] == []
        assert two.wait(500) == 0, logs[1].read_text()
        again = demo(first, logs[2])
        try:
            assert again.wait(400) == 0, logs[2].read_text()
        finally:
            again.kill()
    finally:
        for process in (one, two):
            if process.poll() is None:
                os.kill(process.pid, signal.SIGTERM)
                process.wait(60)
    for folder in folders:
        summary = json.loads((folder / "summary.json").read_text())
        assert summary["sites_compared"] >= 100 and summary["sites_equal_to_pooled"] == summary["sites_compared"]
        assert (folder / "answer.tsv").read_text().startswith("\t".join(COLUMNS) + "\n")
        assert of_folder(folder) == []
    assert (first / "answer.tsv").read_bytes() == (second / "answer.tsv").read_bytes()


def test_another_cohort_over_three_nodes_with_short_tokens(folders: list[Path], tmp_path: Path) -> None:
    """`--vcf --nodes --token-lifetime`: an uncompressed VCF with odd genotypes, three nodes, 20-second tokens."""
    vcf = tmp_path / "cohort.vcf"
    header = ["##fileformat=VCFv4.2", '##FORMAT=<ID=GT,Number=1,Type=String,Description="g">', "##contig=<ID=7>"]
    samples = [f"s{i}" for i in range(90)]
    kinds = ["0/0", "0/1", "1/1", "0|1", "1/2", "2/2", "./.", "./1", "0/2"]
    rows = [
        ["7", str(100 + site), ".", "A", "C,G", ".", ".", ".", "GT", *(kinds[(i // 3 + site) % 9] for i in range(90))]
        for site in range(4)
    ]
    rows.append(
        ["7", "200", ".", "T", "C", ".", ".", ".", "GT", *(["0/0", "0/1", "1/1"][(i // 3) % 3] for i in range(90))]
    )
    vcf.write_text(
        "\n".join(
            [
                *header,
                "\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *samples]),
                *("\t".join(r) for r in rows),
            ]
        )
        + "\n"
    )
    work = folders[0]
    command = [
        GDI,
        "demo",
        "--exit",
        "--work-dir",
        str(work),
        "--vcf",
        str(vcf),
        "--nodes",
        "3",
        "--token-lifetime",
        "20s",
        "--json",
        str(work / "summary.json"),
    ]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((work / "summary.json").read_text())
    assert summary["nodes"] == 3 and summary["sites_compared"] >= 1
    assert summary["sites_equal_to_pooled"] == summary["sites_compared"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--vcf", "/nowhere.vcf"], "/nowhere.vcf does not exist"),
        (["--nodes", "0"], "between 1 and 20"),
        (["--token-lifetime", "soon"], "not a duration"),
    ],
)
def test_a_wrong_option_says_what_to_do(arguments: list[str], said: str) -> None:
    done = subprocess.run(
        [GDI, "demo", "--exit", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0 and said in done.stdout + done.stderr
