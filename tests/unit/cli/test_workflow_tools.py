"""What an author's tools promise: each mistake with the rule's name and what to write instead, a lock that cannot go
stale unseen, no trust in a Snakefile.
"""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from rich.console import Console

from gdi.cli.authoring import snakefile
from gdi.cli.authoring.check import check
from gdi.cli.authoring.snakefile import example_config, lock_of, read_rules
from gdi.cli.authoring.templates import TEMPLATES
from gdi.cli.main import invoke
from gdi.contracts.packed_workflow import packed, unpacked
from gdi.contracts.workflow import CatalogueError, RulesLock
from gdi.contracts.workflow_files import digest_of, files_with_digest, load
from gdi.releases.kind import Rules
from gdi.releases.registry import kind_of, kinds
from gdi.runner.sandbox import why_not
from snakemake_tes_auth.workflow.inspector import RuleFacts, SnakefileFacts

WORKFLOWS = Path(__file__).resolve().parents[3] / "workflows"
MISTAKES = """
import json
from pathlib import Path

localrules: here

def helper(path):
    return json.load(open(path))

def listed(wildcards):
    return helper("list.json")["files"]

def named(wildcards):
    return f"a/{wildcards.x}.txt"

def waits(wildcards):
    return checkpoints.split.get().output[0]

rule all:
    input: "b/1.txt"

checkpoint split:
    output: "split.txt"
    container: "docker://good:1"
    shell: "touch {output}"

rule reader:
    input: listed
    output: "b/{x}.txt"
    params: text=lambda wildcards: Path("x").read_text()
    container: "good:1"
    shell: "cat {input} > {output}"

rule fine:
    input: named
    output: "c/{x}.txt"
    params: n=lambda wildcards, input: len(input)
    resources: mem_mb=lambda wildcards, attempt: 100 * attempt
    container: "good:1"
    shell: "cat {input} > {output}"

rule waiter:
    input: waits
    output: "d.txt"
    container: "good:1"
    run:
        print(1)

rule here:
    input: "d.txt"
    output: "e.txt"
    container: "unknown:1"
    shell: "cp {input} {output}"

rule bare:
    output: "f.txt"
    shell: "touch {output}"
"""
HOSTILE = """
import os, sys
for place in ("{outside}", "/gdi/workflow/planted"):
    try:
        open(place, "w").write("planted")
    except OSError:
        pass
print("\\x1b[2J" * 1000)
raise ValueError("\\x1b[31mnot this way" + " and on" * 5000)
"""


def entry(folder: Path, text: str, **changed: object) -> Path:
    folder.mkdir(parents=True)
    (folder / "Snakefile").write_text(text)
    (folder / "s.json").write_text("{}")
    paths = (("made", "c/7.txt"), ("never", "g.txt"))
    content = {
        "name": folder.name,
        "title": "T",
        "version": "1",
        "needs": {"images": ["good:1"]},
        "releases": [
            {"name": n, "title": n, "path": p, "schema_file": "s.json", "kind": "allele-counts", "merge": False}
            for n, p in paths
        ],
        "parameters": {"n": {"type": "integer", "minimum": 1, "default": 0}},
        **changed,
    }
    (folder / "workflow.yaml").write_text(yaml.safe_dump(content))
    return folder


@pytest.fixture
def console() -> Console:
    return Console(record=True, width=300, highlight=False)


def cli(console: Console, *arguments: str) -> int:
    return invoke(["workflow", *arguments], console)


def test_every_mistake_is_named_with_its_rule_and_what_to_write_instead(tmp_path: Path) -> None:
    made = load(entry(tmp_path / "w", MISTAKES))
    found = [str(f) for f in check(made, read_rules(made)) if f.level == "error"]
    for rule, what, instead in (
        ("reader", "`input` function reads a file's content", "read them in a rule with `shell:`"),
        ("reader", "`params` function reads a file's content", "read them in a rule with `shell:`"),
        ("waiter", "`input` function waits for a checkpoint", "known before the start"),
        ("split", "a checkpoint's output", "Make it a `rule`"),
        ("here", "is listed in `localrules` but does more", "Take it out of `localrules`"),
        ("here", "its image 'unknown:1' is not among needs.images", "Add it there"),
        ("bare", "it has no `container:`", 'container: "image:tag"'),
    ):
        assert [f for f in found if f"rule {rule}:" in f and what in f and instead in f], (rule, what, found)
    assert "Snakefile, line 27, rule reader" in "\n".join(found)
    assert not [f for f in found if "rule fine" in f or "rule all" in f]  # names are asked for, not contents
    assert [
        f for f in found if f.startswith("workflow.yaml, releases.1.path: no rule makes 'g.txt'")
    ] and "c/7.txt" not in "\n".join(found)
    assert [f for f in found if f.startswith("workflow.yaml, parameters.n.default: n: 0 is less than")]
    assert [f for f in found if f.startswith("rules.lock: it is missing")]
    assert len(found) == 10


def releases_of(folder: Path, **changed: object) -> list[str]:
    """What is said of a workflow's one release, which a rule makes."""
    release = {"name": "made", "title": "M", "path": "c/7.txt", "kind": "allele-counts", **changed}
    made = load(entry(folder, MISTAKES, releases=[release]))
    return [
        str(f) for f in check(made, SnakefileFacts(snakemake="9")) if "releases.0." in str(f) and ".path" not in f.where
    ]


def test_a_kind_that_is_not_installed_is_refused_by_name(tmp_path: Path) -> None:
    assert releases_of(tmp_path / "good") == []
    (said,) = releases_of(tmp_path / "w", kind="histogram")
    assert said.startswith("workflow.yaml, releases.0.kind: There is no kind of release named 'histogram'")
    assert "Use one of these: allele-counts, matrix, moments, table" in said


@pytest.mark.parametrize(
    ("schema", "wrong"),
    [
        ('{"properties": {"format": {"const": "gdi-allele-counts/1"}}}', ""),
        ('{"properties": {"format": {"enum": ["gdi-allele-counts/1", "gdi-allele-counts/2"]}}}', ""),
        ("{}", ""),
        ('{"properties": {"format": {"const": "gdi-histogram/1"}}}', "describes another format than gdi-allele-coun"),
        ('{"properties": {"format": {"enum": ["gdi-histogram/1"]}}}', "describes another format than gdi-allele-coun"),
        ('{"properties": 5}', "is no JSON Schema (SchemaError)"),
        ("{", "is no JSON Schema (JSONDecodeError)"),
    ],
)
def test_a_releases_schema_is_compared_with_its_kind(schema: str, wrong: str, tmp_path: Path) -> None:
    folder = tmp_path / "w"
    folder.mkdir()
    release = {"name": "made", "title": "M", "path": "c/7.txt", "kind": "allele-counts", "schema_file": "r.json"}
    entry(folder / "x", MISTAKES, releases=[release])
    (folder / "x" / "r.json").write_text(schema)
    found = check(load(folder / "x"), SnakefileFacts(snakemake="9"))
    said = [str(f) for f in found if f.where == "workflow.yaml, releases.0.schema_file"]
    assert (wrong in said[0]) if wrong else not said


def test_a_run_has_one_answer(tmp_path: Path) -> None:
    two = [{"name": n, "title": n, "path": "c/7.txt", "kind": "allele-counts"} for n in ("one", "two")]
    found = check(load(entry(tmp_path / "w", MISTAKES, releases=two)), SnakefileFacts(snakemake="9"))
    assert "workflow.yaml, releases: one, two are merged, but a run has one answer." in "\n".join(map(str, found))


def test_the_old_names_of_a_kind_are_read_for_one_version_and_said(tmp_path: Path) -> None:
    old = {"name": "made", "title": "M", "path": "c/7.txt", "schema_file": "s.json", "check": "allele-counts"}
    with pytest.warns(FutureWarning, match="are named `kind` now"):
        (kept,) = load(entry(tmp_path / "kept", MISTAKES, releases=[old])).workflow.releases
    with pytest.warns(FutureWarning):
        merged = {**old, "gather": "allele-counts"}
        (added,) = load(entry(tmp_path / "added", MISTAKES, releases=[merged])).workflow.releases
    assert (kept.kind, kept.merge, added.kind, added.merge) == ("allele-counts", False, "allele-counts", True)
    with pytest.warns(FutureWarning), pytest.raises(CatalogueError, match="gather must be allele-counts"):
        load(entry(tmp_path / "other", MISTAKES, releases=[{**old, "gather": "histogram"}]))


def test_a_snakefile_is_a_strangers_program(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    made = load(entry(tmp_path / "w", HOSTILE.format(outside=outside)))
    with pytest.raises(CatalogueError, match=r"w/Snakefile: Snakemake cannot read it: ValueError") as told:
        read_rules(made)
    assert "\x1b" not in str(told.value) and len(str(told.value)) < 4000
    assert load(made.folder).digest == made.digest
    if why_not() is None:
        assert not outside.exists()


def test_one_that_never_ends_or_answers_nonsense_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = load(entry(tmp_path / "w", ""))
    monkeypatch.setattr(snakefile, "SECONDS", 0.5)
    monkeypatch.setattr(snakefile, "_command", lambda *_: (["/bin/sleep", "30"], None))
    with pytest.raises(CatalogueError, match="did not finish"):
        read_rules(made)
    monkeypatch.setattr(snakefile, "SECONDS", 20.0)
    for script in (
        "exit 0",
        "echo '{}' > $1/facts.json",
        "ln -s /etc/passwd $1/facts.json",
        "echo trouble >&2; kill -9 $$",
    ):
        monkeypatch.setattr(
            snakefile,
            "_command",
            lambda folder, work, script=script: (["/bin/sh", "-c", script, "sh", str(work)], None),
        )
        with pytest.raises(CatalogueError, match="ended without an answer"):
            read_rules(made)


def test_the_smallest_entry_is_good_as_it_is_and_its_lock_cannot_go_stale_unseen(
    tmp_path: Path, console: Console
) -> None:
    catalogue = ["--catalogue", str(tmp_path)]
    assert cli(console, "init", "my-counts", *catalogue) == 0
    folder = tmp_path / "my-counts"
    made = load(folder)
    assert made.lock is not None and made.lock.rules == ["count", "gather"] and not made.stale
    facts = SnakefileFacts(
        snakemake=made.lock.snakemake,
        rules=[
            RuleFacts(name="all", line=9, kind="norun"),
            RuleFacts(name="count", line=15, kind="shell", container="gdi-task:1"),
            RuleFacts(name="gather", line=30, kind="shell", container="gdi-task:1", makes=["release/sites.json"]),
        ],
    )
    assert check(made, facts) == []
    (folder / "README.md").write_text("changed")
    assert load(folder) == made and check(load(folder), facts) == [], "what nothing runs is not signed"
    before = digest_of(folder, readme=True)  # of a run that was admitted when it was
    assert before != made.digest and files_with_digest(folder, before) == sorted(["README.md", *made.files])
    assert files_with_digest(folder, made.digest) == made.files and not files_with_digest(folder, "sha256:0")
    assert unpacked(packed(folder, files_with_digest(folder, before))).files["README.md"] == b"changed"
    (folder / "scripts" / "README.md").write_text("changed")
    assert [str(f) for f in check(load(folder), facts)] == [
        f"rules.lock: it is stale: it was made for other files than these. Run `gdi workflow lock {folder}` and"
        " commit it."
    ]
    forged = RulesLock(digest=load(folder).digest, snakemake="9.27.1", rules=["count"])
    (folder / "rules.lock").write_text(forged.text())
    assert "names other rules" in str(check(load(folder), facts)[0])
    assert lock_of(load(folder), facts).rules == ["count", "gather"]
    with pytest.raises(CatalogueError, match="rules"):
        lock_of(made, facts.model_copy(update={"rules": [RuleFacts(name="a/b", line=1, kind="shell")]}))
    for bad in ("My-Counts", "../x", "my-counts"):
        assert cli(console, "init", bad, *catalogue) == 1
    assert "is there already" in console.export_text()


def test_what_a_new_entry_of_each_kind_writes_is_of_that_kind(tmp_path: Path, console: Console) -> None:
    vcf, people = tmp_path / "cohort.vcf.gz", tmp_path / "samples.tsv"
    heading = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", "a", "b", "c"]
    line = ["1", "7", ".", "A", "C", ".", ".", ".", "GT", "0/1", "1|1:9", "./."]
    vcf.write_bytes(gzip.compress(("\t".join(heading) + "\n" + "\t".join(line) + "\n").encode()))
    people.write_text("person\tsex\tldl\na\tmale\t3\nb\t\t4.5\nc\tmale\t\n")
    declared: dict[str, Any] = {"numbers": frozenset({"ldl"}), "columns": frozenset({"ldl"}), "bounds": {"ldl": (0, 9)}}
    rules = Rules(5, 100, levels={"sex": ("female", "male")}, membership="contract", **declared)
    more_of = {"table": ["sex"], "moments": ["sex", "ldl"], "matrix": ["sex", "ldl"]}
    more_of["variant-statistics"] = ["ldl"]
    people_of = {
        "table": 3,
        "matrix": 1,
        "moments": 1,
        "variant-statistics": 0,
    }  # a line of two people is none for a regression
    assert set(TEMPLATES) == set(kinds())
    for kind in TEMPLATES:
        more = more_of.get(kind, [])
        source = [vcf] if kind == "allele-counts" else [vcf, people] if kind == "variant-statistics" else [people]
        assert cli(console, "init", f"my-{kind}", "--kind", kind, "--catalogue", str(tmp_path)) == 0
        entry = load(tmp_path / f"my-{kind}")
        assert (entry.workflow.releases[0].kind, entry.workflow.releases[0].merge) == (kind, True)
        scripts = entry.folder / "scripts"
        counts, release = tmp_path / "counts", tmp_path / "release"
        for step in ([scripts / "count.py", *source, counts], [scripts / "gather.py", release, counts]):
            subprocess.run([sys.executable, "-B", *map(str, step), *more], check=True)
        if schema := entry.workflow.releases[0].schema_file:
            jsonschema.validate(json.loads(release.read_text()), json.loads((entry.folder / schema).read_text()))
        units = kind_of(kind).node().read(io.BytesIO(release.read_bytes()), rules)
        if kind == "allele-counts":
            assert units[0].rows[0][4:6] == (3, 4)
        else:
            assert kind_of(kind).node().scope(units).people == people_of[kind], kind
        assert "**How nodes are merged**" in (entry.folder / "README.md").read_text()
    assert cli(console, "init", "my-scores", "--kind", "scores", "--catalogue", str(tmp_path)) == 1
    assert "take one of allele-counts, table, moments, matrix, variant-statistics" in console.export_text()


def test_required_parameters_get_a_value_that_their_schema_allows(tmp_path: Path) -> None:
    parameters = {
        "a": {"enum": ["x", "y"]},
        "b": {"type": "integer", "minimum": 3},
        "c": {"type": ["null", "string"]},
        "d": {"type": "array"},
        "e": {"default": 5},
    }
    made = load(entry(tmp_path / "w", "", parameters=parameters, required=["a", "b", "d"]))
    assert {k: v for k, v in example_config(made).items() if k in parameters} == {
        "a": "x",
        "b": 3,
        "c": None,
        "d": [],
        "e": 5,
    }


def test_the_projects_own_locks_are_fresh() -> None:
    for folder in WORKFLOWS.iterdir():
        made = load(folder)
        assert made.lock is not None and not made.stale, f"run: gdi workflow lock {folder.name}"
