"""A run's results folder as the gather task leaves it, made by its own parts from releases that are really signed."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from gdi.contracts import broker_api as m
from gdi.contracts.gateway_api import Released
from gdi.contracts.workflow import CatalogueEntry
from gdi.contracts.workflow_files import load
from gdi.kit.canonical import sha256_hex
from gdi.kit.jose import SigningKey
from gdi.releases import signature
from gdi.releases.allele_counts.table import RELEASED
from gdi.releases.registry import kind_of
from gdi_operators import admitted_workflow
from gdi_operators.gather import keep, making, merge

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"


def told(pos: int, ac: int, an: int, alt: str = "G", chrom: str = "2", **changes: Any) -> dict[str, Any]:
    """A row of a node's release whose numbers are exact."""
    place = {"chrom": chrom, "pos": pos, "ref": "A", "alt": alt}
    return {**place, "ac_min": ac, "ac_max": ac, "an_min": an, "an_max": an, "reason": "", "rare": "", **changes}


def release_of(*rows: dict[str, Any], an_max: int = 100, **changes: Any) -> bytes:
    """A node's release of the kind `allele-counts` with these rows."""
    unlisted = {"ac_max": 8, "an_max": an_max, "reason": "small"}
    return json.dumps(
        {"format": RELEASED, "unlisted": unlisted, "sites": list(rows), "withheld": {}, **changes}
    ).encode()


def a_run(keys: dict[str, SigningKey], entry: CatalogueEntry, **changed: Any) -> m.Run:
    """A run over a dataset at each node."""
    plan = [
        m.PlanItem(
            node=node,
            datasets=[f"EGAD5000000000{i}"],
            access_ends_at=time.time() + 9e5,
            gateway_url=f"https://{node}.example",
            audience=f"https://{node}",
            public_key=key.jwk(),
        )
        for i, (node, key) in enumerate(keys.items(), 1)
    ]
    made = m.Run(
        id="r-" + "0" * 20,
        dag_id=entry.workflow.name,
        dag_run_id="manual__1",
        attempt=1,
        state="open",
        workflow=entry.workflow.name,
        digest=entry.digest,
        user="alice@lifescience-ri.eu",
        datasets=[d for i in plan for d in i.datasets],
        plan=plan,
        opened_at=time.time() - 300,
    )
    return made.model_copy(update=changed)


def gathered(
    results: Path, run: m.Run, keys: dict[str, SigningKey], entry: CatalogueEntry | None = None, *, sites: int = 300
) -> Path:
    """Writes the run's folder below `results`; the folder. The second node withholds every seventh site."""
    entry = entry or load(WORKFLOWS / "allele-frequency")
    dice = random.Random(7)
    folder = results / run.id
    folder.mkdir(parents=True, exist_ok=True)
    data: dict[str, bytes] = {}
    released = []
    name = entry.workflow.releases[0].name
    for number, (node, key) in enumerate(keys.items()):
        rows = []
        for i in range(sites):
            ac = min(int(600 * dice.random() ** 3) + 5, 600)
            if not (number and i % 7 == 0):
                rows.append(told(10_000 + i * 7919, ac, 600, "GCT"[i % 3], str(1 + i * 22 // sites)))
        data[node] = release_of(*rows, an_max=600)
        digest = sha256_hex(data[node])
        answer = Released(
            name=name,
            sha256=digest,
            bytes=len(data[node]),
            url=f"https://{node}.example/x",
            signature=signature.sign(
                key,
                node=node,
                run=run.id,
                name=name,
                sha256=digest,
                workflow=run.workflow,
                digest=run.digest,
                attempt=run.attempt,
            ),
            sites_released=len(rows),
        )
        released.append(
            {
                **answer.model_dump(mode="json"),
                "node": node,
                "attempt": run.attempt,
                "kind": entry.workflow.releases[0].kind,
            }
        )
    kind = kind_of(entry.workflow.releases[0].kind)
    kept = {
        node: keep.release(folder, node, name, kind.suffix, lambda file, body=body: file.write_bytes(body))  # type: ignore[misc]
        for node, body in data.items()
    }
    for file in entry.files:  # as `admitted_workflow.keep` does in the run's first step
        place = folder / admitted_workflow.WORKFLOW / file
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes((entry.folder / file).read_bytes())
    merge.answer(kind, kept, list(keys), folder, title=entry.workflow.title)
    dag_run = SimpleNamespace(
        dag_id=run.dag_id,
        run_id=run.dag_run_id,
        conf={"datasets": run.datasets, "ticket": "used"},
        triggering_user_name="portal",
    )
    summary = making.summary_of(run, released) | keep.origin({"dag_run": dag_run}, entry, run)
    (folder / "releases.json").write_text(json.dumps(summary))
    return folder
