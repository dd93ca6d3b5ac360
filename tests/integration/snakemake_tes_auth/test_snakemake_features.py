"""Every feature of Snakemake that changes what a task is, each with a Snakefile of its own in features/: run on a real
TES and S3, with the way chosen for each job. tests/system/test_snakemake_inside.py runs them all with Snakemake inside
and compares every byte."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.support.bare_rig import IMAGE, Bare, bare  # noqa: F401
from tests.support.snakemake_features import FEATURES, Run, everything, run, workflow  # noqa: F401

pytestmark = pytest.mark.long

NAMES = sorted(p.parent.name for p in FEATURES.glob("*/Snakefile"))
HEADER = b"s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"

# What lies in the workspace at the end, by feature: `path: content`, where the content is small; None where only its
# being there counts.
EXPECTED: dict[str, dict[str, bytes | None]] = {
    "blocks": {"end": b"0 blocks_run w\n1 blocks_run w\n2 blocks_run w\nshell\n", "grouped": b"inner\nsecond\n"},
    "checkpoints": {"end": b"part a\npart b\n", "names": b"a\nb\n", "part.a": None, "part.b": None},
    "conda": {"end": b"no environment\n"},
    "ensured": {"a": b"x\n", "b": b"1\n", "c": b"2\n"},
    "folder": {
        "list.txt": b"./below/two words\n./one\n1\n2\n0\n",
        "full/one": b"1\n",
        "full/below/two words": b"2\n",
        "full/.snakemake_timestamp": b"",
        "empty/.snakemake_timestamp": b"",
    },
    "functions": {
        "end.1": b"begin 1\nbegin 2\nbegin 3\none\ttwo\n1 has 2 more a b c 100 2 2\n",
        **{f"begin.{i}": None for i in (1, 2, 3)},
    },
    "grouped": {
        "sum": b"first 1 2\nfirst 2 2\n",
        **{f"{name}.{i}": None for i in (1, 2) for name in ("first", "log")},
        **{f"end.{i}": f"first {i} 2\nsecond\n".encode() for i in (1, 2)},
    },
    "locally": {"begin": b"begin\n", "middle": b"BEGIN\n", "end": b"BEGIN\nend\n"},
    "measured": {
        "once": b"done\n",
        "once.log": b"hello\n",
        "silent.log": b"",
        "once.tsv": None,
        "thrice": b"done\n",
        "thrice.tsv": None,
    },
    "names": {
        "all": b"".join(
            f"{odd}\n".encode()
            for odd in ("a b", "c,d", "é+ü", "it's", "x=y", "(p)", "100% & more", "~t", "-dash", "日本")
        ),
        **{
            f"out put/{odd}.txt": f"{odd}\n".encode()
            for odd in ("a b", "c,d", "é+ü", "it's", "x=y", "(p)", "100% & more", "~t", "-dash", "日本")
        },
        **{
            f"log/{odd} log": b""
            for odd in ("a b", "c,d", "é+ü", "it's", "x=y", "(p)", "100% & more", "~t", "-dash", "日本")
        },
    },
    "piped": {"end": b"1\n2\n3\n"},
    "retried": {"end": b"200\n"},
    "scattered": {
        "end": b"".join(f"piece\n{i}-of-3\n".encode() for i in (1, 2, 3)),
        **{f"{i}-of-3.{kind}": None for i in (1, 2, 3) for kind in ("in", "out")},
    },
    "scripts": {"begin": None, "end": b"begin\nHELLO\n2 scripts_use w\n", "log": b"said\n", "named": b"BEGIN\n\n"},
    "shadowed": {"end": b"rest\n"},
    "temp": {"end.txt": b"middle\nkept\n", "kept.txt": b"kept\n", "flag": b""},
    "wrapped": {"end": b"wrapped\n"},
}
INSIDE = {
    "blocks_run",
    "blocks_first+blocks_second",
    "measured_thrice",
    "piped_read+piped_write",
    "scripts_use",
    "wrapped_make",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_feature_leaves_what_it_leaves_without_a_tes(everything: Run, name: str) -> None:
    found = {
        path.removeprefix(f"{name}/"): content
        for path, content in everything.files.items()
        if path.startswith(f"{name}/")
    }
    assert found == {path: found.get(path) if content is None else content for path, content in EXPECTED[name].items()}


def test_only_jobs_that_need_it_have_snakemake_in_their_task(everything: Run) -> None:
    modes = {t["tags"]["gdi-rule"]: t["tags"]["gdi-mode"] for t in everything.tasks}
    assert {rule for rule, mode in modes.items() if mode == "snakemake"} == INSIDE
    assert len(modes) > 20 and set(modes.values()) == {"direct", "snakemake"}


def test_a_group_is_one_task_whose_inner_files_never_leave_it(everything: Run) -> None:
    tasks = [t for t in everything.tasks if t["tags"]["gdi-rule"] == "grouped_first+grouped_second"]
    assert len(tasks) == 2 and not [o["url"] for t in tasks for o in t["outputs"] if "inner" in o["url"]]


def test_a_retry_asks_for_what_the_attempt_is_given(everything: Run) -> None:
    tasks = [t for t in everything.tasks if t["tags"]["gdi-rule"] == "retried_grows"]
    assert [(t["tags"]["gdi-try"], t["resources"]["ram_gb"], t["state"]) for t in tasks] == [
        ("1", 0.1, "EXECUTOR_ERROR"),
        ("2", 0.2, "COMPLETE"),
    ]


def test_benchmarks_are_snakemakes_own_tables(everything: Run) -> None:
    once, thrice = everything.files["measured/once.tsv"], everything.files["measured/thrice.tsv"]
    assert once.startswith(HEADER) and thrice.startswith(HEADER) and (once.count(b"\n"), thrice.count(b"\n")) == (2, 4)
    assert re.fullmatch(rb"\d+\.\d\d\t0:00:\d\d(\t(\d+\.\d\d|NA)){8}\n", once.removeprefix(HEADER))


def test_a_task_holds_no_credential_and_its_definition_stays_small(everything: Run, bare: Bare) -> None:
    for task in everything.tasks:
        text = str({k: v for k, v in task.items() if k != "logs"})
        assert (
            bare.weed.secret not in text
            and bare.password.read_text() not in text
            and not task["executors"][0].get("env")
        )
        assert sum(len(i.get("content") or "") for i in task["inputs"]) < 6000


def test_with_snakemake_inside_the_same_bytes_are_written(everything: Run, bare: Bare, tmp_path: Path) -> None:
    done = run(bare, workflow(tmp_path), "--tes-auth-mode", "snakemake", "--snakefile", "ensured/Snakefile")
    assert done.code == 0, done.said
    assert done.files == {path: content for path, content in everything.files.items() if path.startswith("ensured/")}
    assert {t["tags"]["gdi-mode"] for t in done.tasks} == {"snakemake"}


BROKEN = """
rule all:
    input: "missing", "folder", "empty", "sum", "script", "line", "update", "own"
rule missing:
    output: "missing"
    shell: "echo not made"
rule folder:
    output: "folder"
    shell: "mkdir {output}"
rule empty:
    output: ensure("empty", non_empty=True)
    shell: "touch {output}"
rule sum:
    output: ensure("sum", sha256="00")
    shell: "echo x > {output}"
rule script:
    output: "script"
    script: "x.py"
rule line:
    output: "line"
    params: odd="a\\nb"
    shell: "exit 3; echo {params.odd:q}"
def wrong(wildcards):
    raise KeyError("no such sum")
rule own:
    output: ensure("own", sha256=wrong)
    shell: "touch {output}"
rule update:
    output: update(directory("update"))
    shell: "touch {output}"
"""


def test_what_cannot_be_is_refused_or_found_out_with_a_reason(bare: Bare, tmp_path: Path) -> None:
    (tmp_path / "Snakefile").write_text(BROKEN)
    (tmp_path / "x.py").write_text("")
    done = run(bare, tmp_path, "--keep-going", "--tes-auth-mode", "direct", "--latency-wait", "1")
    assert done.code == 1 and not done.files
    for words in (
        "rule missing failed with MissingOutput",
        "rule folder failed with ImproperOutput",
        "rule empty failed with EmptyOutput",
        "rule sum failed with WrongChecksum",
        "rule script cannot run as a plain task: it has no `shell:`",
        "rule line failed (exit code 3)",
        "rule update: update() of a directory() is not possible",
        "rule own: KeyError: 'no such sum'",
    ):
        assert words in done.said, f"{words}\n{done.said}"


def test_a_named_conda_environment_is_used_where_the_image_has_it(bare: Bare, tmp_path: Path) -> None:
    """R and Jupyter come from Debian: tests/system/test_snakemake_inside.py."""
    if shutil.which("conda") is None:
        pytest.skip("conda is not installed here, so it is not in the task image either: not tried")
    (tmp_path / "Snakefile").write_text(
        'rule made:\n    output: "made"\n    conda: "base"\n    shell: "echo made > {output}"\n'
    )
    done = run(bare, tmp_path, "--sdm", "conda")
    assert done.code == 0 and done.files == {"made": b"made\n"}, done.said
