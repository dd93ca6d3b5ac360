"""ancestry at two nodes: people by cluster are those of numpy over the pooled genotypes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import jsonschema
import numpy as np

from gdi.local_federation.federation import COHORT
from gdi.local_federation.phenotypes import genotypes
from tests.support.genotypes_kit import ROOT, Cohort, answer, errors, must, simulate

ENTRY = ROOT / "workflows" / "ancestry"
QUESTION = {"person": "person", "columns": [], "least": 0.75}


def reference(of: Cohort, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Loadings and clusters of the cohort's own first components, in the files that the workflow reads."""
    kept = [i for i, site in enumerate(of.sites) if {site[2], site[3]} not in ({"A", "T"}, {"C", "G"})]
    copies = np.where(of.copies < 0, np.nan, of.copies)[kept]
    part = np.nanmean(copies, axis=1) / 2
    scaled = np.nan_to_num((copies - 2 * part[:, None]) / np.sqrt(2 * part * (1 - part))[:, None])
    loadings = np.linalg.svd(scaled, full_matrices=False)[0][:, :2].round(6)
    places = scaled.T @ loadings
    low, high = (np.quantile(places[:, 0], q) for q in (0.25, 0.75))
    centres = np.array([[low, 0.0], [(low + high) / 2, 0.0], [high, 0.0]])
    turned = str.maketrans("ACGT", "TGCA")
    lines = ["chrom\tpos\tcounted\tother\tfrequency\tPC1\tPC2"]
    for n, i in enumerate(kept):
        chrom, pos, ref, alt = of.sites[i]
        if n % 3 == 0:  # on the other strand
            ref, alt = ref.translate(turned), alt.translate(turned)
        counted, other, f, sign = (ref, alt, 1 - part[n], -1) if n % 2 else (alt, ref, part[n], 1)
        lines.append("\t".join(map(str, [chrom, pos, counted, other, repr(float(f)), *(sign * loadings[n])])))
    (folder / "r.tsv").write_text("\n".join(lines) + "\n")
    rows = [f"cluster-{n + 1}\t100\t{x}\t{y}" for n, (x, y) in enumerate(centres)]
    (folder / "r.clusters.tsv").write_text("cluster\tradius\tPC1\tPC2\n" + "\n".join(rows) + "\n")
    return places, centres


def node(of: Cohort, folder: Path, files: Path) -> Path:
    of.write(folder)
    must(
        "ancestry",
        "project.py",
        folder / "cohort.vcf.gz",
        folder / "samples.tsv",
        files / "r.tsv",
        files / "r.clusters.tsv",
        folder / "p.json",
        "--question",
        json.dumps(QUESTION),
    )
    must("ancestry", "gather.py", folder / "ancestry.json", folder / "p.json", "--columns", "[]")
    return folder / "ancestry.json"


def test_people_by_cluster_are_those_of_the_pooled_genotypes(tmp_path: Path) -> None:
    cohort = simulate(people=300, sites=180)
    places, centres = reference(cohort, tmp_path)
    files = [node(cohort.part(range(n, 300, 2)), tmp_path / str(n), tmp_path) for n in range(2)]
    jsonschema.validate(json.loads(files[0].read_text()), json.loads((ENTRY / "release.schema.json").read_text()))
    answer("table", files, tmp_path)
    distances = np.linalg.norm(places[:, None] - centres, axis=2)
    near = np.where(distances.min(axis=1) <= 100, distances.argmin(axis=1), 3)
    names = ["cluster-1", "cluster-2", "cluster-3", "unassigned"]
    rows = {row["LEVEL_1"]: row for row in csv.DictReader((tmp_path / "answer.tsv").open(), delimiter="\t")}
    assert sum(bool(rows[name]["PEOPLE"]) for name in names) >= 3
    for n, name in enumerate(names):
        true = int((near == n).sum())
        assert int(rows[name]["PEOPLE_MIN"]) <= true <= int(rows[name]["PEOPLE_MAX"] or 300)
        assert rows[name]["PEOPLE"] in ("", str(true)), name


def test_the_demos_loadings_are_of_enough_variants_and_place_its_people(tmp_path: Path) -> None:
    names, _ = genotypes(COHORT)
    (tmp_path / "samples.tsv").write_text("person\n" + "\n".join(names) + "\n")
    files = [ENTRY / "loadings" / f"1000g-demo{end}" for end in (".tsv", ".clusters.tsv")]
    must(
        "ancestry",
        "project.py",
        COHORT,
        tmp_path / "samples.tsv",
        *files,
        tmp_path / "p.json",
        "--question",
        json.dumps(QUESTION),
    )
    rows = json.loads((tmp_path / "p.json").read_text())["rows"]
    counts = {level: sum(row == [level] for row in rows) for level in {row[0] for row in rows}}
    assert sum(counts.values()) == 629 and min(counts.values()) >= 20 and len(counts) == 4


def test_bad_loadings_end_the_run_with_their_line(tmp_path: Path) -> None:
    reference(simulate(people=20, sites=180), tmp_path)
    text = (tmp_path / "r.tsv").read_text()
    last = len(text.splitlines()) + 1
    bad = [
        (1, text.replace("frequency", "f")),
        (1, "\n".join(text.splitlines()[:90])),
        (last, text + "1\t7\tA\tT\t0.5\t0\t0\n"),
        (last, text + "1\t7\tA\tC\t1.5\t0\t0\n"),
        (last, text + "1\t7\tA\tC\t0.5\t0\n"),
        (1, text + "1\t7\tA\tC\t0.5\t900\t0\n"),
    ]
    for n, (_, changed) in enumerate(bad):
        (tmp_path / str(n)).write_text(changed)
    code = "import project\nfor n in sys.argv[1:]:\n    failing(project.loadings, Path(n))"
    found = errors("ancestry", code, *(tmp_path / str(n) for n in range(len(bad))))
    assert found == [f"LoadingsError {line}" for line, _ in bad]
