"""A run's results: proven again each time, never a file that is not theirs, and an RO-Crate that others' software takes
for a Workflow Run Crate.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gdi.contracts import broker_api as m
from gdi.kit.jose import SigningKey
from gdi.releases.allele_counts.merge import COLUMNS, MAX_POINTS
from gdi.releases.answer import MAX_ROWS
from gdi_operators.results import answer
from gdi_operators.results.folder import Results, find, release_file
from tests.support.packed_results import ENTRY, KEYS, keys, packed, run  # noqa: F401
from tests.support.results_kit import a_run, gathered

pytestmark = pytest.mark.long


def verdicts(found: Results, run: m.Run) -> list[bool]:
    return [p.verified for p in found.proofs(keys(run)).values()]


def test_every_release_is_proven_again_when_it_is_looked_at(run: m.Run) -> None:
    found = find(run.id)
    assert verdicts(found, run) == [True, True]
    (found.folder / release_file("node-b", "allele-counts")).write_bytes(b"{}")
    assert verdicts(find(run.id), run) == [True, False]
    proof = find(run.id).proofs(keys(run))["releases/node-b/allele-counts.json"]
    assert "another checksum" in proof.verdict
    (found.folder / release_file("node-a", "allele-counts")).unlink()
    assert verdicts(find(run.id), run) == [False, False]


def test_the_brokers_key_counts_more_than_the_one_that_lies_with_the_results(run: m.Run) -> None:
    stranger = SigningKey.generate()
    folder = find(run.id).folder
    gathered(folder.parent, a_run({**KEYS, "node-b": stranger}, ENTRY), {**KEYS, "node-b": stranger})
    assert verdicts(find(run.id), run) == [True, False], (
        "results that somebody replaced, with a key of their own beside them"
    )


def test_no_file_but_the_results_own_can_be_asked_for(run: m.Run, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    found = find(run.id)
    files = found.files()
    assert set(files) == {
        "answer.tsv",
        "answer.png",
        "answer.svg",
        "releases.json",
        "releases/node-a/allele-counts.json",
        "releases/node-b/allele-counts.json",
    }
    (found.folder / "answer.tsv").unlink()
    (found.folder / "answer.tsv").symlink_to(tmp_path / "secret")
    assert "answer.tsv" not in find(run.id).files()
    for node, name in (("../..", "x"), ("node-a", "../x"), ("node-a", "a/b"), ("", "")):
        with pytest.raises(ValueError, match="not the names"):
            release_file(node, name)
    summary = json.loads((found.folder / "releases.json").read_text())
    summary["releases"][0]["node"] = "../../secret"
    (found.folder / "releases.json").write_text(json.dumps(summary))
    assert find(run.id).summary is None and "cannot be read" in find(run.id).broken


def test_nothing_gathered_is_no_error_and_nonsense_is_one_that_says_what_to_do(run: m.Run) -> None:
    assert find("r-" + "9" * 20) == Results(find(run.id).folder.parent / ("r-" + "9" * 20))
    file = find(run.id).folder / "releases.json"
    for nonsense in ("{", "[]", "null", '{"run": 1}'):
        file.write_text(nonsense)
        assert "clear the task gather" in find(run.id).broken


def test_the_pages_answer_is_all_of_it_in_sums_and_bounded_in_rows(tmp_path: Path) -> None:
    file = tmp_path / "answer.tsv"
    small, missing = "\t\t\t1\t3\t11\t8\t8\tsmall", "\t\t\t0\t0\t8\t0\t16\tmissing"
    lines = ["\t".join(COLUMNS)] + [
        f"{i % 22}\t{i}\tA\tG\t"
        + (missing if i % 100 == 50 else small if i % 10 == 0 else f"{i % 9}\t8\t0.5\t2\t{i % 9}\t{i % 9}\t8\t8\t")
        for i in range(50_000)
    ]
    file.write_text("\n".join(lines) + "\n")
    page = answer.read(file, "allele-counts")
    assert (page.total, page.withheld, page.missing) == (50_000, 4_500, 500)
    assert page.histogram and page.points and sum(page.histogram) == 45_000
    assert (
        len(page.rows) == MAX_ROWS
        and page.rows[1] == ["1", 1, "A", "G", 1, 8, 0.5, 2, 1, 1, 8, 8, None]
        and page.rows[0][4:7] == [None] * 3
    )
    assert MAX_POINTS / 2 <= len(page.points) <= MAX_POINTS and page.points[-1][1] > 49_900
    file.write_text("not\ta table\n")
    with pytest.raises(ValueError, match="no columns"):
        answer.read(file, "allele-counts")


def test_the_crate_says_what_ran_on_what_for_whom_and_who_allowed_it(run: m.Run, tmp_path: Path) -> None:
    entities = packed(run, tmp_path / "run.zip")
    action = entities[f"#run-{run.id}"]
    assert (
        action["instrument"] == {"@id": "workflow/Snakefile"}
        and entities["workflow/Snakefile"]["identifier"] == ENTRY.digest
    )
    assert entities["workflow/Snakefile"]["version"] == ENTRY.workflow.version
    assert {entities[o["@id"]].get("value") or entities[o["@id"]]["name"] for o in action["object"]} == {
        *run.datasets,
        "4",
        "0",
    }
    assert {p["@id"] for p in action["participant"]} == {"#node-node-a", "#node-node-b"} and "by portal" in action[
        "description"
    ]
    assert (
        entities["#user"]["name"] == run.user
        and entities["#access-0"]["recipient"] == {"@id": "#user"}
        and "dac" in entities["#access-0"]["name"]
    )
    assert "verified" in entities["releases/node-a/allele-counts.json"]["description"]
    assert "gdit_" not in json.dumps(entities)


def test_a_crate_of_a_tampered_release_says_so(run: m.Run, tmp_path: Path) -> None:
    (find(run.id).folder / release_file("node-a", "allele-counts")).write_bytes(b"{}")
    assert (
        "COULD NOT BE VERIFIED"
        in packed(run, tmp_path / "run.zip")["releases/node-a/allele-counts.json"]["description"]
    )
