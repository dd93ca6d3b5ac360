"""Other people's workflows give what the local executor gives, or are refused by name: every case of
tests/cases/snakemake, over a real S3.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from snakemake_tes_auth.executor.submit import SKEW
from tests.support.bare_rig import Bare, bare  # noqa: F401
from tests.support.snakemake_cases import Case, cases
from tests.support.tes_kit import wait_for

pytestmark = pytest.mark.long


@pytest.mark.parametrize("case", cases(), ids=lambda c: c.name)
def test_a_case_ends_as_with_the_local_executor(bare: Bare, case: Case, tmp_path: Path) -> None:
    prefix = bare.prefix()
    case.fill(bare, prefix)
    code, output = bare.run(case.lay_out(tmp_path), prefix, *case.args, environment=case.environment)
    case.check(bare, prefix, code, output)


HERE_ONLY = (  # see compatibility.md
    "global_called_name",
    "mv_input",
    "envvars_refused_run",
    "envvars_refused_shell",
    "replaced_config",
)


@pytest.mark.parametrize("case", [c for c in cases() if c.name not in HERE_ONLY], ids=lambda c: c.name)
def test_the_local_executor_ends_so(bare: Bare, case: Case, tmp_path: Path) -> None:
    prefix, words = bare.prefix(), iter(case.args)
    own = [w for w in words if w != "--envvars" or not next(words)]  # the local executor's jobs have all variables
    case.fill(bare, prefix)
    code, output = bare.local(case.lay_out(tmp_path), prefix, *own, environment=case.environment)
    if case.fails:
        assert code != 0, output
    else:
        case.check(bare, prefix, code, output)


EDITED = """
rule all:
    input: "o.txt"
rule a:
    output: "o.txt"
    shell: "bash scripts/a.sh > {output}"
"""


def test_a_task_of_an_edited_script_is_cancelled_and_not_adopted(bare: Bare, tmp_path: Path) -> None:
    prefix = bare.prefix()
    (tmp_path / "Snakefile").write_text(EDITED)
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts/a.sh").write_text("sleep 300; echo old\n")
    first = bare.start(tmp_path, prefix)
    wait_for("the task runs", lambda: [t for t in bare.of_prefix(prefix) if t["state"] == "RUNNING"])
    first.kill()
    first.communicate()
    (tmp_path / "scripts/a.sh").write_text("echo new\n")
    code, output = bare.run(tmp_path, prefix, "--unlock")
    assert code == 0, output
    code, output = bare.run(tmp_path, prefix, "--rerun-incomplete")
    assert code == 0 and bare.get(prefix, "o.txt") == b"new\n", output
    assert [t["state"] for t in bare.of_prefix(prefix)] == ["CANCELED", "COMPLETE"]


REPLACED = """
rule all:
    input: "o.txt"
rule a:
    input: "in.txt"
    output: "o.txt"
    shell: "if grep -q old {input}; then sleep 300; fi; cat {input} > {output}"
"""


def test_a_task_of_a_replaced_input_is_cancelled_and_not_adopted(bare: Bare, tmp_path: Path) -> None:
    """Its command is the same, and it reads what was there when it began."""
    prefix = bare.prefix()
    (tmp_path / "Snakefile").write_text(REPLACED)
    bare.put(prefix, "in.txt", b"old\n")
    first = bare.start(tmp_path, prefix)
    wait_for("the task runs", lambda: [t for t in bare.of_prefix(prefix) if t["state"] == "RUNNING"])
    began = time.time()
    first.kill()
    first.communicate()
    wait_for("the clocks' difference is over", lambda: time.time() > began + SKEW + 1.5)
    bare.put(prefix, "in.txt", b"new\n")
    code, output = bare.run(tmp_path, prefix, "--unlock")
    assert code == 0, output
    code, output = bare.run(tmp_path, prefix, "--rerun-incomplete")
    assert code == 0 and bare.get(prefix, "o.txt") == b"new\n", output
    assert [t["state"] for t in bare.of_prefix(prefix)] == ["CANCELED", "COMPLETE"]


CONFIGURED = """
rule all:
    input: "o.txt"
rule a:
    output: "o.txt"
    shell: "sleep {config[sleep]}; echo {config[word]} > {output}"
"""


def test_a_task_of_another_configuration_does_not_write_after_the_new_one(bare: Bare, tmp_path: Path) -> None:
    """It belongs to another run by its name, and nobody else can be at work in this directory."""
    prefix = bare.prefix()
    (tmp_path / "Snakefile").write_text(CONFIGURED)
    first = bare.start(tmp_path, prefix, "--config", "word=old", "sleep=300")
    wait_for("the task runs", lambda: [t for t in bare.of_prefix(prefix) if t["state"] == "RUNNING"])
    first.kill()
    first.communicate()
    code, output = bare.run(tmp_path, prefix, "--unlock")
    assert code == 0, output
    code, output = bare.run(tmp_path, prefix, "--rerun-incomplete", "--config", "word=new", "sleep=0")
    assert code == 0 and bare.get(prefix, "o.txt") == b"new\n", output
    assert [t["state"] for t in bare.of_prefix(prefix)] == ["CANCELED", "COMPLETE"]


LOGGED = """
rule all:
    input: "o.txt"
rule a:
    output: "o.txt"
    log: "logs/a.log"
    shell: "echo what went wrong > {log}; exit 3"
"""


def test_the_log_of_a_failed_job_is_stored(bare: Bare, tmp_path: Path) -> None:
    prefix = bare.prefix()
    (tmp_path / "Snakefile").write_text(LOGGED)
    code, output = bare.run(tmp_path, prefix)
    assert code == 1 and bare.get(prefix, "logs/a.log") == b"what went wrong\n", output


@pytest.mark.parametrize(
    ("rule", "word"),
    [
        ('output: "o.txt"\n    container: "shub://a/b"', "one for Apptainer only"),
        ('output: "h#h"', "rename the file"),
    ],
)
def test_what_no_tes_can_take_is_refused_before_anything_runs(bare: Bare, tmp_path: Path, rule: str, word: str) -> None:
    prefix = bare.prefix()
    made = "h#h" if "h#h" in rule else "o.txt"
    first = 'rule first:\n    output: "first.txt"\n    shell: "echo > {output}"\n'
    (tmp_path / "Snakefile").write_text(
        f'rule all:\n    input: "first.txt", "{made}"\n{first}rule a:\n    {rule}\n    shell: "echo > {{output}}"\n'
    )
    code, output = bare.run(tmp_path, prefix)
    assert code == 1 and "rule a" in output and word in " ".join(output.split()), output
    assert not bare.of_prefix(prefix) and "Traceback" not in output
