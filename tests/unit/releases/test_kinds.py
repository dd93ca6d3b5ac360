"""Kinds of release are found by entry point; each half loads alone; both ends write variants alike."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from gdi.releases.allele_counts.merge import parse
from gdi.releases.allele_counts.table import FORMAT, read
from gdi.releases.kind import BadReleaseError, FormatError
from gdi.releases.registry import UnknownKindError, kind_of, kinds
from tests.kubernetes import images
from tests.support.results_kit import release_of, told
from tests.support.second_kind import second_kind  # noqa: F401

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
INSTALLED = PROJECT["entry-points"]["gdi.release_kinds"]


def test_the_products_kinds_are_installed_and_an_unknown_one_is_told_which() -> None:
    assert list(kinds()) == sorted(INSTALLED) and kind_of("allele-counts").format == FORMAT
    with pytest.raises(UnknownKindError, match=r"Use one of these: allele-counts, .*table"):
        kind_of("histogram")


def test_another_packages_kind_is_found_by_its_entry_point(second_kind: str) -> None:
    assert list(kinds()) == sorted([*INSTALLED, second_kind]) and kind_of(second_kind).format == "gdi-yes-no-counts/1"


@pytest.mark.parametrize(
    ("points", "mistake"),
    [
        ("broken = no_such_module:KIND", "broken = no_such_module:KIND does not load"),
        ("broken = json:dumps", "is no kind of that name"),
        ("renamed = gdi.releases.allele_counts:KIND", "is no kind of that name"),
    ],
)
def test_a_broken_entry_point_stops_the_process_and_is_named(
    points: str, mistake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "broken-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[gdi.release_kinds]\n{points}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    kinds.cache_clear()
    try:
        with pytest.raises(RuntimeError, match=mistake):
            kinds()
    finally:
        kinds.cache_clear()


@pytest.mark.parametrize(
    ("half", "foreign"),
    [
        ("node", ["matplotlib", "gdi.releases.allele_counts.merge", "gdi_operators", "airflow"]),
        ("coordinator", ["sqlalchemy", "gdi.releases.allele_counts.check", "node_gateway", "boto3"]),
    ],
)
def test_a_half_loads_without_what_only_the_other_needs(half: str, foreign: list[str]) -> None:
    code = f"""
import sys
from gdi.releases.registry import kind_of
kind_of("allele-counts").{half}()
print([name for name in {foreign} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def row(**changes: Any) -> dict[str, Any]:
    classes = dict.fromkeys(("hom_alt", "hemi_ref", "hemi_alt", "half_missing", "missing"), 0)
    return {
        "chrom": "2",
        "pos": 7,
        "ref": "A",
        "alt": "G",
        "ac": 5,
        "an": 100,
        "hom_ref": 45,
        "het": 5,
        **classes,
    } | changes


@pytest.mark.parametrize(
    ("changes", "good"),
    [
        ({}, True),
        ({"alt": "<DEL>"}, True),
        ({"alt": "*"}, True),
        ({"ref": "<DEL>"}, False),
        ({"ref": "A<DEL>"}, False),
        ({"ref": ""}, False),
        ({"ref": "A" * 1001}, False),
        ({"alt": "<del>"}, False),
        ({"alt": "G\n"}, False),
        ({"chrom": "2 X"}, False),
        ({"chrom": "HLA-A*01:01:01:01"}, True),
        ({"chrom": "HLA<A"}, False),
        ({"chrom": "*01"}, False),
        ({"pos": 2**31 - 1}, True),
        ({"pos": 2**31}, False),
        ({"ref": "M", "alt": "<INS:ME:ALU>"}, True),
    ],
)
def test_node_and_coordinator_accept_the_same_variants(changes: dict[str, Any], good: bool) -> None:
    document = {"format": FORMAT, "sites": [row(**changes)]}

    def accepted(how: Any, mistake: type[Exception]) -> bool:
        try:
            how()
        except mistake:
            return False
        return True

    data = json.dumps(document).encode()
    assert accepted(lambda: read(io.BytesIO(data), max_rows=9), FormatError) is good
    released = {**told(7, 5, 100), **{name: value for name, value in changes.items() if name != "an"}}
    assert accepted(lambda: parse("n", release_of(released)), BadReleaseError) is good


def test_every_image_that_releases_or_gathers_keeps_the_kinds_entry_points(tmp_path: Path) -> None:
    environment = images.environment()
    points = (
        "[console_scripts]\nnode-gateway = node_gateway.main:main\ntoken-broker = token_broker.main:main\n"
        "[gdi.release_kinds]\nallele-counts = gdi.releases.allele_counts:KIND\n"
        "[airflow.plugins]\ngdi = gdi_operators.plugin:GdiPlugin\n"
    )
    kept = {}
    for target, packages in environment.PACKAGES.items():
        file = tmp_path / target
        file.write_text(points)
        environment.keep_entry_points(file, packages)
        kept[target] = file.read_text() if file.exists() else ""
    assert {t for t, text in kept.items() if "allele-counts = gdi.releases.allele_counts:KIND" in text} == {
        "node",
        "airflow",
    }
    assert "gdi = gdi_operators.plugin:GdiPlugin" in kept["airflow"] and "token_broker" not in kept["node"]
    assert not kept["task"]
