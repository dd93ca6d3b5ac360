"""An answer becomes the files of GDI's frequency Beacon: columns and types of the mini-node, exact counts only, of
public datasets only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from rich.console import Console

from gdi.cli.main import invoke
from gdi.contracts.descriptor import Descriptor
from gdi.local_federation.beacon.frequencies import DatasetFolders, StoredVariant
from gdi.releases.allele_counts.beacon_files import BeaconFilesError, write

HEAD = ["CHROM", "POS", "REF", "ALT", "AC", "AN", "AF", "NODES", "AC_MIN", "AC_MAX", "AN_MIN", "AN_MAX", "REASON"]
SITES = [
    ("chr2", 10_000_000, "A", "G", 12, 600),
    ("chr2", 10_000_001, "AT", "A", 7, 600),
    ("2", 45_864_732, "C", "T", None, 600),
    ("X", 7, "AC", "GT", 9, 500),
    ("chrMT", 9, "A", "C", 6, 300),
    ("HLA-A*01", 9, "A", "C", 6, 300),
    ("3", 9, "A", "<DEL>", 6, 300),
]
DECISION = {"by": "Data access committee", "date": "2026-11-01"}
PUBLIC = {"dataset": "EGAD00001", "assembly": "GRCh38", "membership": "public", "decision": DECISION, "title": "Ours"}


def answer(folder: Path, name: str = "answer.tsv", head: list[str] = HEAD) -> Path:
    rows = [["" if one is None else str(one) for one in site] for site in SITES]
    lines = ["\t".join(head), *("\t".join([*row, *[""] * (len(head) - 6)]) for row in rows)]
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder / name


def described(**changes: Any) -> Descriptor:
    return Descriptor.model_validate({**PUBLIC, **changes})


def test_the_files_have_the_mini_nodes_columns_and_our_numbers(tmp_path: Path) -> None:
    table = pl.read_csv(answer(tmp_path), separator="\t", schema_overrides={"AC": pl.Int64})
    table.with_columns(pl.col("AC") // 2).write_csv(tmp_path / "men.tsv", separator="\t")
    (tmp_path / "EGAD00001" / "GRCh38").mkdir(parents=True)
    (tmp_path / "EGAD00001" / "GRCh38" / "allele-freq-chr9.1.parquet").write_text("of an earlier answer")
    files = {"EE": tmp_path / "answer.tsv", "EE_M": tmp_path / "men.tsv"}
    assert write(files, described(), tmp_path, "Institute", "genome-of-europe") == 8
    folder = tmp_path / "EGAD00001" / "GRCh38"
    assert sorted(file.name for file in folder.iterdir()) == [
        f"allele-freq-chr{name}.parquet" for name in ("2.0", "2.1", "M.0", "X.0")
    ]
    frame = pl.read_parquet(folder / "allele-freq-chr2.0.parquet")
    counts = dict.fromkeys(("AC", "AC_HET", "AC_HOM", "AC_HEMI", "AN"), pl.Int32)
    texts = dict.fromkeys(("REF", "ALT", "VT", "POPULATION"), pl.String)
    assert dict(frame.schema) == {"POS": pl.Int32, **texts, "AF": pl.Float64, **counts}
    assert frame.rows() == [
        (9_999_999, "A", "G", "SNP", "EE", 0.02, 12, None, None, None, 600),
        (9_999_999, "A", "G", "SNP", "EE_M", 0.01, 6, None, None, None, 600),
    ]
    assert pl.read_parquet(folder / "allele-freq-chr2.1.parquet")["VT"].unique().to_list() == ["INDEL"]
    assert pl.read_parquet(folder / "allele-freq-chrX.0.parquet")["VT"].unique().to_list() == ["UNKNOWN"]
    metadata = yaml.safe_load((tmp_path / "EGAD00001" / "metadata.yaml").read_text())
    assert (
        metadata["record_count"] == 8 and metadata["catalog_id"] == "genome-of-europe" and "2026-11-01" in str(metadata)
    )
    stored = DatasetFolders(tmp_path).populations("EGAD00001", StoredVariant("GRCh38", "2", 9_999_999, "A", "G"))
    assert [(one["population"], one["alleleCount"]) for one in stored] == [("EE", 12), ("EE_M", 6)]


def test_a_nodes_release_with_classes_gives_copies_by_class(tmp_path: Path) -> None:
    columns = {"chrom": ["1", "1"], "pos": [5, 9], "ref": ["A", "A"], "alt": ["C", "C"]}
    columns |= {"ac_min": [20, 0], "ac_max": [20, 8], "an_min": [200, 200], "an_max": [200, 200]}
    columns |= {"hom_ref": [85, None], "het": [10, None], "hom_alt": [5, None], "hemi_alt": [0, None]}
    pl.DataFrame(columns).write_parquet(tmp_path / "release.parquet")
    assert write({"FI": tmp_path / "release.parquet"}, described(), tmp_path, "Institute", "x") == 1
    row = pl.read_parquet(tmp_path / "EGAD00001" / "GRCh38" / "allele-freq-chr1.0.parquet").to_dicts()[0]
    assert (row["AC"], row["AC_HET"], row["AC_HOM"], row["AC_HEMI"], row["AN"]) == (20, 10, 10, 0, 200)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"membership": "contract", "decision": None}, "are not public"),
        ({"membership": "sensitive", "decision": None}, "are not public"),
        ({"dataset": "EGAD*"}, "of one dataset"),
        ({"assembly": "T2T-CHM13v2.0"}, "GRCh37 or GRCh38"),
    ],
    ids=str,
)
def test_what_is_not_public_gets_no_file(changes: dict[str, Any], why: str, tmp_path: Path) -> None:
    with pytest.raises(BeaconFilesError, match=why):
        write({"EE": answer(tmp_path)}, described(**changes), tmp_path / "out", "Institute", "x")
    assert not (tmp_path / "out").exists()


def test_an_answer_that_lacks_nodes_or_is_none_is_refused(tmp_path: Path) -> None:
    lacking = answer(tmp_path, "a.tsv", [*HEAD, "MISSING_NODES"])
    with pytest.raises(BeaconFilesError, match="lacks nodes"):
        write({"EE": lacking}, described(), tmp_path, "Institute", "x")
    with pytest.raises(BeaconFilesError, match="no answer of allele-frequency"):
        write({"EE": answer(tmp_path, "b.tsv", ["TABLE", *HEAD[1:]])}, described(), tmp_path, "Institute", "x")
    with pytest.raises(BeaconFilesError, match="is no population"):
        write({"Estonia": answer(tmp_path)}, described(), tmp_path, "Institute", "x")


def test_the_command_says_what_it_wrote_or_why_not(tmp_path: Path) -> None:
    console = Console(record=True, width=200)
    for name, changes in (("public", {}), ("contract", {"membership": "contract", "decision": None})):
        document = {key: value for key, value in {**PUBLIC, **changes}.items() if value is not None}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(document))
    common = ["--population", "EE", "--out", str(tmp_path), "--provider", "Institute"]
    file = str(answer(tmp_path))
    assert invoke(["beacon-files", file, "--descriptor", str(tmp_path / "public.yaml"), *common], console) == 0
    assert invoke(["beacon-files", file, "--descriptor", str(tmp_path / "contract.yaml"), *common], console) == 1
    text = console.export_text()
    assert "4 rows written" in text and "are not public" in text
