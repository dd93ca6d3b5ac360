"""One person under two ids is found by genotypes; relatives are not taken for one."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gdi.releases.disclosure.duplicates import pairs
from node_gateway import commands
from node_gateway.epochs import genotypes
from node_gateway.epochs.persons import PersonsError

SITES = 400


def person(chance: random.Random) -> list[tuple[int, int]]:
    return [(int(chance.random() < 0.5), int(chance.random() < 0.5)) for _ in range(SITES)]


def child(mother: list[tuple[int, int]], father: list[tuple[int, int]], chance: random.Random) -> list[tuple[int, int]]:
    return [(chance.choice(m), chance.choice(f)) for m, f in zip(mother, father, strict=True)]


def write(file: Path, people: dict[str, list[tuple[int, int]]], *, missing: float = 0, sites: int = SITES) -> Path:
    chance = random.Random(7)
    lines = [
        "##fileformat=VCFv4.2",
        "\t".join(["#CHROM POS ID REF ALT QUAL FILTER INFO FORMAT", *people]).replace(" ", "\t"),
    ]
    for place in range(sites):
        cells = ["./." if chance.random() < missing else "{}|{}:9".format(*one[place]) for one in people.values()]
        lines.append("\t".join(["chr1", str(place + 1), ".", "A", "C", ".", ".", ".", "GT:DP", *cells]))
    with gzip.open(file, "wt") as out:
        out.write("\n".join(lines) + "\n")
    return file


def test_a_person_under_two_ids_is_found_and_a_family_is_not(tmp_path: Path) -> None:
    chance = random.Random(15)
    people = {f"P{n}": person(chance) for n in range(30)}
    people |= {"C1": child(people["P0"], people["P1"], chance), "C2": child(people["P0"], people["P1"], chance)}
    ids, found = genotypes.read([write(tmp_path / "a.vcf.gz", people)])
    assert ids == list(people) and found == []
    again = {**people, "TWICE": people["P7"]}
    _, found = genotypes.read([write(tmp_path / "b.vcf.gz", again, missing=0.02)])
    assert found == [("P7", "TWICE")]


def test_files_that_cannot_tell_are_refused_by_name_and_name_nobody(tmp_path: Path) -> None:
    chance = random.Random(3)
    people = {"ANNA": person(chance), "BERT": person(chance)}
    few = write(tmp_path / "few.vcf.gz", people, sites=20)
    other = write(tmp_path / "other.vcf.gz", {"CARL": people["ANNA"], "BERT": people["BERT"]})
    (tmp_path / "none.vcf").write_text("nothing\n")
    for files, mistake in (
        ([few], "common sites"),
        ([few, other], "other samples"),
        ([tmp_path / "none.vcf"], "no VCF"),
    ):
        with pytest.raises(PersonsError, match=mistake) as error:
            genotypes.read(files)
        assert not {"ANNA", "BERT", "CARL"} & set(str(error.value).split())
    assert pairs({}) == []


def test_the_command_writes_ids_and_ends_with_1_for_duplicates(tmp_path: Path) -> None:
    chance = random.Random(4)
    people = {f"P{n}": person(chance) for n in range(5)}
    good = write(tmp_path / "a.vcf.gz", people)
    done = CliRunner().invoke(commands.app, ["epoch", "persons", str(good), "--out", str(tmp_path / "ids")])
    assert done.exit_code == 0 and (tmp_path / "ids").read_text().split() == list(people)
    assert (tmp_path / "ids").stat().st_mode & 0o777 == 0o600
    bad = write(tmp_path / "b.vcf.gz", {**people, "P9": people["P1"]})
    refused = CliRunner().invoke(commands.app, ["epoch", "persons", str(bad)])
    assert refused.exit_code == 1 and "duplicate-people" in refused.output and "P1 and P9" in refused.output
