"""Snakemake on any TES, without the rest of this project: the workspace by Snakemake's own S3 plugin, found again after
a restart.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.archive import Archive
from tests.support.bare_rig import Bare, bare  # noqa: F401
from tests.support.tes_kit import wait_for

pytestmark = pytest.mark.long

CHAIN = """
container: "gdi-task:1"
rule all:
    input: "end.txt"
rule first:
    output: temp("first.txt")
    shell: "echo one > {output}"
rule second:
    input: "first.txt"
    output: "end.txt"
    log: "logs/second.log"
    shell: "python3 {workflow.basedir}/scripts/cat.py {input} > {output}; echo {config[word]} >> {output}"
"""
SLOW = """
container: "gdi-task:1"
rule all:
    input: expand("out/{i}.txt", i=range(3))
rule slow:
    output: "out/{i}.txt"
    shell: "sleep {config[slow]}; echo {wildcards.i} > {output}"
"""


def workflow(folder: Path, snakefile: str) -> Path:
    (folder / "scripts").mkdir(parents=True)
    (folder / "Snakefile").write_text(snakefile)
    (folder / "scripts" / "cat.py").write_text("import sys, library\nlibrary.cat(sys.argv[1])\n")
    (folder / "scripts" / "library.py").write_text(
        "def cat(name):\n    print(open(name).read().strip())\n" + "# " + "x" * 200_000 + "\n"
    )
    return folder


@pytest.fixture(scope="module")
def chain(bare: Bare, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, Path]:
    """One finished run: its prefix, what Snakemake said, its folder."""
    folder, prefix = workflow(tmp_path_factory.mktemp("bare") / "w", CHAIN), bare.prefix()
    code, said = bare.run(
        folder, prefix, "--config", "word=two", "--logger", "airflow", "--logger-airflow-file", "events.jsonl"
    )
    assert code == 0, said
    return prefix, said, folder


def test_a_workflow_runs_on_a_tes_with_its_workspace_in_s3(bare: Bare, chain: tuple[str, str, Path]) -> None:
    prefix, _, _ = chain
    assert bare.get(prefix, "end.txt") == b"one\ntwo\n"
    assert bare.files(prefix) == ["end.txt", "logs/second.log"], "the temporary file is removed"


def test_its_tasks_name_their_storage_as_the_plugin_does_and_carry_the_runs_tags(
    bare: Bare,
    chain: tuple[str, str, Path],
) -> None:
    prefix, _, _ = chain
    first, second = bare.of_prefix(prefix)
    assert [o["url"] for o in first["outputs"]] == [f"{prefix}/first.txt"] and f"{prefix}/first.txt" in [
        i.get("url") for i in second["inputs"]
    ]
    assert (
        re.fullmatch(r"bare-[0-9a-f]{20}", first["tags"]["gdi-run"])
        and first["tags"]["gdi-run"] == second["tags"]["gdi-run"]
    )


def test_the_workflows_files_lie_in_the_workspace_once_and_not_in_the_tasks(
    bare: Bare,
    chain: tuple[str, str, Path],
) -> None:
    prefix, _, folder = chain
    _, second = bare.of_prefix(prefix)
    sources = {i["path"]: i["url"] for i in second["inputs"] if "/.gdi/sources/" in i.get("url", "")}
    assert set(sources) == {f"{folder}/Snakefile", f"{folder}/scripts/cat.py", f"{folder}/scripts/library.py"}
    assert len(json.dumps(second)) < 20_000, "a file of 200 kB is not in the task"


def test_no_secret_is_in_a_task_a_log_or_an_event(bare: Bare, chain: tuple[str, str, Path]) -> None:
    prefix, said, folder = chain
    everything = (
        said
        + json.dumps(bare.of_prefix(prefix))
        + "".join(p.read_text(errors="replace") for p in folder.rglob("*") if p.is_file())
    )
    for secret in (bare.tes.world.service_password, bare.weed.secret, bare.weed.access):
        assert secret not in everything


def test_events_are_json_lines_in_order(chain: tuple[str, str, Path]) -> None:
    events: list[dict[str, Any]] = [json.loads(line) for line in (chain[2] / "events.jsonl").read_text().splitlines()]
    assert events[0]["kind"] == "rules" and events[0]["counts"] == {"first": 1, "second": 1}
    for rule in ("first", "second"):
        states = [e.get("state", "used") for e in events if e["kind"] == "job" and e["rule"] == rule]
        told = [s for s in states if s not in ("queued", "running")]
        assert told[:2] == ["planned", "submitted"] and sorted(told[2:]) == ["done", "used"]
    assert all(e["task"] and e["node"].startswith("127.0.0.1:") for e in events if e.get("state") == "submitted")
    assert all(e["usage"]["cores"] == 1 and e["usage"]["total_s"] >= 0 for e in events if "usage" in e)
    (last,) = [e for e in events if e["kind"] == "progress"][-1:]
    assert last["done"] == last["total"]


def test_a_killed_snakemake_finds_its_tasks_again_from_another_folder(bare: Bare, tmp_path: Path) -> None:
    prefix = bare.prefix()
    first = bare.start(workflow(tmp_path / "one", SLOW), prefix, "--config", "slow=8")
    try:
        wait_for("all three are there", lambda: len(bare.of_prefix(prefix)) == 3 or first.poll() is not None)
    finally:
        first.kill()
        said, _ = first.communicate()
    assert len(bare.of_prefix(prefix)) == 3, said
    code, said = bare.run(workflow(tmp_path / "two", SLOW), prefix, "--config", "slow=8")
    assert code == 0, said
    assert len(bare.of_prefix(prefix)) == 3, "none was submitted twice"
    assert bare.files(prefix) == ["out/0.txt", "out/1.txt", "out/2.txt"]


def test_a_forced_run_and_another_configuration_make_new_tasks(bare: Bare, tmp_path: Path) -> None:
    prefix, folder = bare.prefix(), workflow(tmp_path / "w", CHAIN)
    for more in (
        ("--config", "word=one"),
        ("--config", "word=one", "--forceall"),
        ("--config", "word=other", "--forceall"),
    ):
        code, said = bare.run(folder, prefix, *more)
        assert code == 0, said
    assert len(bare.of_prefix(prefix)) == 6 and bare.get(prefix, "end.txt") == b"one\nother\n"


def test_a_token_comes_from_the_environment_and_is_not_left_to_local_rules(bare: Bare, tmp_path: Path) -> None:
    """Bearer tokens of a user; a local rule of the same workflow looks into its own environment."""
    snakefile = CHAIN.replace(
        "rule second",
        'localrules: look\nrule look:\n    output: "look.txt"\n    container: None\n    shell: "env > {output}"\nrule'
        " second",
    ).replace('input: "end.txt"', 'input: "end.txt", "look.txt"')
    prefix, token = bare.prefix(), bare.tes.world.aai.token("alice")
    environment = {"SNAKEMAKE_TES_AUTH_TOKEN": token}
    code, said = bare.run(
        workflow(tmp_path / "w", snakefile), prefix, "--config", "word=x", credential=(), environment=environment
    )
    assert code == 0, said
    looked = bare.get(prefix, "look.txt").decode()
    assert (
        "PATH=" in looked
        and token not in looked
        and token not in said
        and token not in json.dumps(bare.of_prefix(prefix))
    )


def test_a_token_that_the_tes_refuses_is_said_in_a_sentence(bare: Bare, tmp_path: Path) -> None:
    environment = {"SNAKEMAKE_TES_AUTH_TOKEN": "ended-4711"}
    code, said = bare.run(
        workflow(tmp_path / "w", CHAIN), bare.prefix(), "--config", "word=x", credential=(), environment=environment
    )
    assert code == 1 and "put a fresh one there" in said and "Traceback" not in said and "ended-4711" not in said, said


def test_an_archives_file_goes_untouched_to_the_tes_which_reads_it_as_the_user(bare: Bare, tmp_path: Path) -> None:
    """`sda://`: existence by the archive's listing, with the user's token of a file; the content only at the TES, with
    the token it was called with.
    """
    tes_token, archive_token = bare.tes.world.aai.token("alice"), "archive-token-4711"
    gateway, archive = bare.tes.world.gateway, Archive(archive_token)
    gateway.files["DS1/a b.txt.c4gh"] = b"from the archive\n"
    gateway.capabilities.add(tes_token)
    (tmp_path / "token").write_text(tes_token)
    snakefile = """
rule all:
    input: "copy.txt"
rule copy:
    input: storage.sda("sda://DS1/a b.txt.c4gh")
    output: "copy.txt"
    container: "gdi-task:1"
    shell: "cat {input:q} > {output}"
"""
    prefix, credential = bare.prefix(), ("--tes-auth-token-file", str(tmp_path / "token"))
    code, said = bare.run(
        workflow(tmp_path / "w", snakefile),
        prefix,
        *("--storage-sda-url", archive.url),
        credential=credential,
        environment={"SNAKEMAKE_STORAGE_SDA_TOKEN": archive_token},
    )
    archive.http.shutdown()
    archive.http.server_close()
    assert code == 0, said
    assert bare.get(prefix, "copy.txt") == b"from the archive\n" and archive.asked == ["/metadata/datasets/DS1/files"]
    (task,) = bare.of_prefix(prefix)
    assert task["inputs"][0]["url"].partition("#")[0] == "sda://DS1/a b.txt.c4gh"
    assert archive_token not in said + json.dumps(task) and tes_token not in said


def test_a_region_by_htsget_reaches_the_rule_as_a_file(bare: Bare, tmp_path: Path) -> None:
    """One rule for each region, in a command that quotes nothing; a region that is not there fails by its name."""
    tes_token, gateway = bare.tes.world.aai.token("alice"), bare.tes.world.gateway
    gateway.capabilities.add(tes_token)
    for chrom in ("20", "21"):
        gateway.slices[f"variants/DS1/cohort?format=VCF&referenceName={chrom}&start=0&end=9"] = f"of {chrom}\n".encode()
    (tmp_path / "token").write_text(tes_token)
    snakefile = """
rule all:
    input: "all.txt"
rule region:
    input: storage.sda("htsget://DS1/cohort.vcf.gz?referenceName={chrom}&start=0&end=9")
    output: "{chrom}.txt"
    container: "gdi-task:1"
    shell: "cat {input} > {output}; echo {input} >> {output}"
rule join:
    input: expand("{chrom}.txt", chrom=str(config["chromosomes"]).split())
    output: "all.txt"
    container: "gdi-task:1"
    shell: "cat {input} > {output}"
"""
    folder = workflow(tmp_path / "w", snakefile)
    prefix, credential = bare.prefix(), ("--tes-auth-token-file", str(tmp_path / "token"))
    code, said = bare.run(folder, prefix, "--config", "chromosomes=20 21", credential=credential)
    assert code == 0, said
    name = "htsget/DS1/referenceName={},start=0,end=9/cohort.vcf.gz"
    lines = bare.get(prefix, "all.txt").decode().splitlines()
    assert lines[0::2] == ["of 20", "of 21"] and [
        line.endswith(name.format(c)) for c, line in zip((20, 21), lines[1::2], strict=True)
    ] == [True, True], lines
    urls = {
        i["url"].partition("#")[0] for t in bare.of_prefix(prefix) for i in t["inputs"] if "htsget" in i.get("url", "")
    }
    assert "htsget://variants/DS1/cohort?format=VCF&referenceName=20&start=0&end=9" in urls, "as Funnel has it"
    code, said = bare.run(folder, prefix, "--config", "chromosomes=22", credential=credential)
    assert code == 1 and "referenceName=22" in said and tes_token not in said, said
