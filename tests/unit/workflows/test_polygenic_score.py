"""polygenic-score at two nodes: n, mean, deviation and histogram by group are those of numpy over the pooled people;
flipped alleles, other strands and missing variants are read as what they are.
"""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from tests.support.genotypes_kit import ROOT, Cohort, answer, errors, must, released, script, simulate

ENTRY = ROOT / "workflows" / "polygenic-score"
BINS = [-8, -3, -2, -1, 0, 1, 2, 3, 8]
TURNED = {"A": "T", "C": "G", "G": "C", "T": "A"}
QUESTION = {"person": "person", "groups": ["country"], "scale": "reference", "ambiguous": "drop", "least": 0.75}


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    return simulate(people=360, sites=240)


def ambiguous(site: tuple[str, int, str, str]) -> bool:
    return TURNED[site[2]] == site[3]


def weights(of: Cohort, file: Path, *, lacking: int = 6) -> np.ndarray:
    """A scoring file in which every second variant counts REF, every third is on the other strand, and some are not in
    the cohort. The weight of each site's ALT.
    """
    chance = np.random.default_rng(869)
    own, lines = np.zeros(len(of.sites)), []
    for n, (chrom, pos, ref, alt) in enumerate(of.sites):
        weight, part = chance.normal(0, 0.1), 0.3
        effect, other = (ref, alt) if n % 2 else (alt, ref)
        if n % 3 == 0:
            effect, other = TURNED[effect], TURNED[other]
        own[n] = 0 if ambiguous(of.sites[n]) else -weight if n % 2 else weight
        lines.append(f"{chrom}\t{pos}\t{effect}\t{other}\t{weight!r}\t{1 - part if n % 2 else part:g}")
    lines += [f"3\t{1000 + n}\tA\tG\t0.2\t0.5" for n in range(lacking)]
    head = "###PGS CATALOG SCORING FILE\n#format_version=2.0\n#genome_build=GRCh38\n"
    columns = "chr_name\tchr_position\teffect_allele\tother_allele\teffect_weight\tallelefrequency_effect\n"
    file.write_text(head + columns + "\n".join(lines) + "\n")
    return own


def node(of: Cohort, folder: Path, file: Path, **question: object) -> Path:
    of.write(folder)
    asked = json.dumps({**QUESTION, "least": 0.6, **question})
    must(
        "polygenic-score",
        "score.py",
        folder / "cohort.vcf.gz",
        folder / "samples.tsv",
        file,
        folder / "s.json",
        "--question",
        asked,
    )
    more = ["--groups", json.dumps({**QUESTION, **question}["groups"]), "--bins", json.dumps(BINS)]
    must("polygenic-score", "gather.py", folder / "score.json", folder / "s.json", *more)
    return folder / "score.json"


def by_numpy(of: Cohort, own: np.ndarray) -> np.ndarray:
    """Standardised scores of one node's people, who are not called as the node's mean."""
    copies = np.where(of.copies < 0, np.nan, of.copies)
    filled = np.where(np.isnan(copies), np.nanmean(copies, axis=1)[:, None], copies)
    mean, variance = (own * 2 * 0.3).sum(), (own**2 * 2 * 0.3 * 0.7).sum()
    found: np.ndarray = (own @ filled - mean) / variance**0.5
    return found


def test_the_distribution_is_that_of_the_pooled_people(cohort: Cohort, tmp_path: Path) -> None:
    own = weights(cohort, tmp_path / "w.txt")
    parts = [cohort.part([i for i in range(360) if i // 180 == n]) for n in range(2)]
    files = [node(part, tmp_path / str(n), tmp_path / "w.txt") for n, part in enumerate(parts)]
    jsonschema.validate(json.loads(files[0].read_text()), json.loads((ENTRY / "release.schema.json").read_text()))
    merged = answer("moments", files, tmp_path)
    scores = np.concatenate([by_numpy(part, own) for part in parts])
    groups = np.concatenate([part.groups for part in parts])
    seen = 0
    for row, group in zip(csv.DictReader((tmp_path / "answer.tsv").open(), delimiter="\t"), merged, strict=True):
        values = scores[groups == row["LEVEL_1"]]
        assert int(row["N"]) == len(values) == 120 and row["NODES"] == "2"
        assert float(row["MEAN"]) == pytest.approx(values.mean(), abs=6e-3 * max(1, abs(values.mean())))
        assert float(row["SD"]) == pytest.approx(values.std(ddof=1), rel=1e-2)
        for one in group.bins:
            true = int(((values >= one.low) & (values < one.high)).sum())
            assert one.fewest <= true <= one.most, (row["LEVEL_1"], one)
            seen += one.fewest == one.most and true > 0
    assert seen >= 4 and len(merged) == 3
    means = {dict(one.levels)["country"]: one.pooled.mean for one in merged}
    assert len(set(means.values())) == 3


def test_ambiguous_variants_are_left_out_or_read_as_written(cohort: Cohort, tmp_path: Path) -> None:
    weights(cohort, tmp_path / "w.txt")
    few = cohort.part(range(60))
    facts = {}
    for how in ("drop", "keep"):
        (tmp_path / how).mkdir()
        facts[how] = json.loads(node(few, tmp_path / how, tmp_path / "w.txt", ambiguous=how).read_text())["scores"][
            "score"
        ]
    strands = sum(map(ambiguous, cohort.sites))
    assert facts["keep"]["variants"] == 240 and facts["drop"]["variants"] == 240 - strands and strands > 30


@pytest.mark.parametrize("value", ["", " ", "NA", "NaN", "NULL", "."])
def test_however_a_file_says_that_there_is_no_value_the_group_is_unknown(
    value: str, cohort: Cohort, tmp_path: Path
) -> None:
    """A category that no node declares refuses the whole release, after all the work."""
    weights(cohort, tmp_path / "w.txt")
    few = cohort.part(range(20))
    node(replace(few, groups=[value, *few.groups[1:]]), tmp_path, tmp_path / "w.txt")
    groups = json.loads((tmp_path / "s.json").read_text())["groups"]
    assert groups == [["unknown"], *([name] for name in few.groups[1:])]


def test_a_node_lets_no_score_of_few_variants_out(cohort: Cohort, tmp_path: Path) -> None:
    file = tmp_path / "w.txt"
    weights(cohort, file, lacking=0)
    file.write_text("\n".join(file.read_text().splitlines()[: 4 + 99]) + "\n")
    written = node(cohort.part(range(60)), tmp_path / "a", file, ambiguous="keep")
    with pytest.raises(Exception, match="at least 100 variants"):
        released("moments", written)


def test_a_bad_scoring_file_ends_the_run_with_its_line(cohort: Cohort, tmp_path: Path) -> None:
    file = tmp_path / "w.txt"
    weights(cohort, file)
    text = file.read_text()
    bad = {
        4: text.replace("effect_weight", "beta"),
        5: text.replace("\t0.3\n", "\t1.3\n", 1),
        251: text + "1\tx\tA\tC\t0.1\t0.2\n",
        252: text + "\n1\t3000000\t<DEL>\tC\t0.1\t0.2\n",
    }
    for line, changed in bad.items():
        (tmp_path / str(line)).write_text(changed.replace("\n\n", "\n#\n"))
    code = "import scoring\nfor n in sys.argv[1:]:\n    failing(scoring.read, Path(n))"
    assert errors("polygenic-score", code, *(tmp_path / str(line) for line in bad)) == [
        f"ScoreFileError {line}" for line in bad
    ]


def test_a_dataset_with_too_few_of_the_variants_fails(cohort: Cohort, tmp_path: Path) -> None:
    folder, file = cohort.part(range(20)).write(tmp_path), tmp_path / "w.txt"
    weights(cohort, file, lacking=200)
    files = (folder / "cohort.vcf.gz", folder / "samples.tsv", file, folder / "s.json")
    done = script("polygenic-score", "score.py", *files, "--question", json.dumps(QUESTION))
    assert done.returncode == 1 and done.stderr.splitlines()[-1] == "GDI-ERROR class=TooFewVariants line=1"
