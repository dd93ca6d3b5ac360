"""Releases asked of a gateway."""

from __future__ import annotations

import json
from typing import Any

from gdi.releases.allele_counts.table import FORMAT
from tests.support.gateway_world import NODE, Run, World, slug, world_fixture  # noqa: F401


def row(pos: int, *, hom_ref: int = 50, het: int = 20, hom_alt: int = 10, **changes: Any) -> dict[str, Any]:
    counts = {
        "ac": het + 2 * hom_alt,
        "an": 2 * (hom_ref + het + hom_alt),
        "hom_ref": hom_ref,
        "het": het,
        "hom_alt": hom_alt,
    }
    return {
        "chrom": "2",
        "pos": pos,
        "ref": "A",
        "alt": "C",
        **counts,
        "hemi_ref": 0,
        "hemi_alt": 0,
        "half_missing": 0,
        "missing": 0,
        **changes,
    }


def table(rows: list[dict[str, Any]]) -> bytes:
    """The file that a run asks to release."""
    return json.dumps({"format": FORMAT, "sites": rows}).encode()


def ask(world: World, run: Run, rows: list[dict[str, Any]], *, name: str = "counts", **changes: Any) -> Any:
    world.s3.put(f"{run.id}/release.json", table(rows))
    return again(run, name=name, **changes)


def request(run: Run, *, name: str = "counts") -> dict[str, Any]:
    return {
        "name": name,
        "path": "release.json",
        "kind": "allele-counts",
        "schema": {"type": "object"},
        "workflow": "allele-frequency",
        "attempt": run.attempt,
    }


def again(run: Run, *, name: str = "counts", **changes: Any) -> Any:
    body = {**request(run, name=name), **changes}
    return run.call("POST", f"/releases/{run.id}", scope="releases close", json=body)


def fetch(run: Run, name: str = "counts") -> Any:
    return run.call("GET", f"/releases/{run.id}/{name}", scope="releases close")
