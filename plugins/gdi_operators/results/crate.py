"""A run as an RO-Crate: Workflow Run Crate 0.5 (w3id.org/ro/wfrun/workflow/0.5), over Workflow RO-Crate 1.0 and
RO-Crate 1.1.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gdi.contracts import broker_api as m
from gdi.contracts.ids import dataset_name
from gdi.contracts.results import MEDIA_TYPES, Approval
from gdi.releases.columns import sha256_of
from gdi_operators.results.folder import (
    ANSWER,
    COLUMNS,
    DRAWING,
    PACKED,
    PLOT,
    TITLES,
    WORKFLOW,
    Kept,
    Proof,
    Results,
    Summary,
)

PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": "Process Run Crate",
    "https://w3id.org/ro/wfrun/workflow/0.5": "Workflow Run Crate",
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": "Workflow RO-Crate",
}
CONTEXT = ["https://w3id.org/ro/crate/1.1/context", "https://w3id.org/ro/terms/workflow-run/context"]
SNAKEMAKE = "https://w3id.org/workflowhub/workflow-ro-crate#snakemake"
HOMES = {
    "apache-airflow": "https://airflow.apache.org",
    "snakemake": "https://snakemake.github.io",
    "gdi-workflows": "https://gdi.onemilliongenomes.eu",
}
EGA = re.compile(r"EGAD[0-9]{5,20}")
DOI = re.compile(r"10\.[0-9]{4,9}/[^?#]+")
SOURCES = {".md": "text/markdown", ".py": "text/x-python", ".json": "application/json", ".yaml": "application/yaml"}
Entity = dict[str, Any]


def approvals_of(run: m.Run, audit: m.AuditPage) -> list[Approval]:
    """The visas of the newest admission of each dataset, from the broker's audit."""
    found: dict[str, Approval] = {}
    for entry in audit.entries:
        if entry.action == "run.admit" and entry.allowed and entry.dataset in run.datasets and entry.visa:
            visa = {k: v for k, v in entry.visa.items() if k in ("source", "by") and isinstance(v, str)}
            times = {
                k: float(v)
                for k, v in entry.visa.items()
                if k in ("asserted", "ends_at") and isinstance(v, int | float)
            }
            found[entry.dataset] = Approval(dataset=entry.dataset, node=entry.node or "", **visa, **times)
    return [found[d] for d in run.datasets if d in found]


def write(
    file: Path,
    results: Results,
    proofs: Mapping[str, Proof],
    run: m.Run | None,
    approvals: Iterable[Approval],
    started_by: str | None,
) -> None:
    """Writes the zip: everything that may be taken away, the workflow, and ro-crate-metadata.json. Blocking."""
    payload = {name: path for name, path in results.files().items()}
    workflow = {
        p.relative_to(results.folder).as_posix(): p
        for p in sorted((results.folder / WORKFLOW).rglob("*"))
        if p.is_file() and not p.is_symlink()
    }
    metadata = describe(results, sorted(payload), sorted(workflow), proofs, run, list(approvals), started_by)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as crate:
        crate.writestr("ro-crate-metadata.json", json.dumps(metadata, indent=1))
        for name, path in (payload | workflow).items():
            crate.write(path, name)


def describe(
    results: Results,
    payload: list[str],
    workflow: list[str],
    proofs: Mapping[str, Proof],
    run: m.Run | None,
    approvals: list[Approval],
    started_by: str | None,
) -> dict[str, Any]:  # JSON-LD
    """`ro-crate-metadata.json`. `payload` and `workflow`: the names of the files in the crate."""
    kept = results.summary
    assert kept is not None
    action = f"#run-{kept.run}"
    main = f"{WORKFLOW}/Snakefile"
    ended = kept.gathered_at or (results.folder / "releases.json").stat().st_mtime
    datasets = {d: _dataset_id(d) for node in kept.nodes.values() for d in node.datasets}
    parameters = {name: f"#parameter-{name}" for name in kept.parameters}
    values = {name: f"#value-{name}" for name in kept.parameters}
    answers = (ANSWER, COLUMNS, PACKED)
    outputs = [
        name for name in payload if name in answers or name.startswith("releases/") or name.endswith((".png", ".svg"))
    ]
    title = kept.title or kept.workflow
    urls = {i.node: {"url": i.gateway_url} for i in run.plan} if run else {}
    graph: list[Entity] = [
        {
            "@id": "ro-crate-metadata.json",
            "@type": "CreativeWork",
            "about": _ref("./"),
            "conformsTo": [
                _ref("https://w3id.org/ro/crate/1.1"),
                _ref("https://w3id.org/workflowhub/workflow-ro-crate/1.0"),
            ],
        },
        {
            "@id": "./",
            "@type": "Dataset",
            "name": f"{title}: run {kept.run}",
            "description": (
                f"{title}, version {kept.version or kept.digest}, over {len(datasets)} datasets at {len(kept.nodes)}"
                f" nodes. Only checked releases left the nodes.{_without(kept)}"
            ),
            "version": str(kept.answer_version),
            "datePublished": _time(ended),
            "license": _ref("#terms"),
            "author": _ref("#user"),
            "publisher": _ref("#federation"),
            "conformsTo": [_ref(p) for p in PROFILES],
            "mainEntity": _ref(main),
            "mentions": [_ref(action), *(_ref(f"#access-{i}") for i in range(len(approvals)))],
            "hasPart": [_ref(n) for n in [*payload, *workflow]] + [_ref(i) for i in datasets.values()],
        },
        *(
            {"@id": p, "@type": "CreativeWork", "name": name, "version": p.rsplit("/", 1)[1]}
            for p, name in PROFILES.items()
        ),
        {
            "@id": "#terms",
            "@type": "CreativeWork",
            "name": "Terms of the datasets' data access committees",
            "description": (
                "These results are counts that the nodes released under their own policies. Use them as the terms of"
                " access to the datasets allow."
            ),
        },
        {
            "@id": main,
            "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow"],
            "name": title,
            "version": kept.version or kept.digest,
            "identifier": kept.digest,
            "programmingLanguage": _ref(SNAKEMAKE),
            "conformsTo": _ref("https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"),
            "encodingFormat": "text/plain",
            "url": HOMES["gdi-workflows"],
            "license": _ref("#terms"),
            "input": [_ref("#parameter-datasets"), *(_ref(i) for i in parameters.values())],
            "output": [_ref(f"#output-{name}") for name in sorted({_output(n) for n in outputs})],
            **(
                {"softwareRequirements": _refs(f"#image-{i}" for i, _ in enumerate(kept.images))} if kept.images else {}
            ),
        },
        {
            "@id": SNAKEMAKE,
            "@type": "ComputerLanguage",
            "name": "Snakemake",
            "alternateName": "snakemake",
            "identifier": _ref("https://doi.org/10.1093/bioinformatics/bts480"),
            "url": _ref("https://snakemake.github.io"),
            **({"version": kept.software["snakemake"]} if "snakemake" in kept.software else {}),
        },
        *(
            {
                "@id": f"#image-{i}",
                "@type": "ContainerImage",
                "name": image,
                "additionalType": _ref("https://w3id.org/ro/terms/workflow-run#DockerImage"),
            }
            for i, image in enumerate(kept.images)
        ),
        {
            "@id": "#parameter-datasets",
            "@type": "FormalParameter",
            "name": "datasets",
            "additionalType": "Dataset",
            "valueRequired": True,
            "multipleValues": True,
        },
        *(
            {
                "@id": parameters[n],
                "@type": "FormalParameter",
                "name": n,
                "additionalType": _kind(v),
                "valueRequired": False,
            }
            for n, v in kept.parameters.items()
        ),
        *(
            {
                "@id": values[n],
                "@type": "PropertyValue",
                "name": n,
                "value": _plain(v),
                "exampleOfWork": _ref(parameters[n]),
            }
            for n, v in kept.parameters.items()
        ),
        *(
            {
                "@id": f"#output-{n}",
                "@type": "FormalParameter",
                "name": n,
                "additionalType": "File",
                "valueRequired": True,
            }
            for n in sorted({_output(name) for name in outputs})
        ),
        *_datasets(kept, datasets),
        *(_file(results, name, kept, proofs) for name in payload),
        *(_source(results, n) for n in workflow if n != main),
        {
            "@id": action,
            "@type": "CreateAction",
            "name": f"Run {kept.run} of {title}, attempt {kept.attempt}",
            "identifier": [kept.run, f"{kept.dag_id}/{kept.dag_run_id}"],
            "description": (
                f"Snakemake at {len(kept.nodes)} nodes, on behalf of {kept.user}"
                + (f", started in Airflow by {started_by}" if started_by else "")
            ),
            "instrument": _ref(main),
            "agent": _ref("#user"),
            "participant": [_ref(f"#node-{n}") for n in kept.nodes if n not in kept.missing],
            "object": [*(_ref(i) for i in datasets.values()), *(_ref(i) for i in values.values())],
            "result": [_ref(n) for n in outputs],
            "endTime": _time(run.closed_at if run and run.closed_at and run.attempt == kept.attempt else ended),
            "actionStatus": "http://schema.org/CompletedActionStatus",
            **({"startTime": _time(kept.opened_at)} if kept.opened_at else {}),
        },
        {
            "@id": "#user",
            "@type": "Person",
            "name": kept.user,
            "identifier": kept.user,
            "affiliation": _ref("#federation"),
        },
        {
            "@id": "#federation",
            "@type": "Organization",
            "name": "European Genomic Data Infrastructure",
            "url": "https://gdi.onemilliongenomes.eu",
        },
        *(
            {
                "@id": f"#node-{n}",
                "@type": "Organization",
                "name": n,
                "parentOrganization": _ref("#federation"),
                **urls.get(n, {}),
                **({"description": f"Not in this answer: {kept.missing[n]}"} if n in kept.missing else {}),
            }
            for n in kept.nodes
        ),
        *(
            {"@id": _software(n, v), "@type": "SoftwareApplication", "name": n, "softwareVersion": v, "url": HOMES[n]}
            for n, v in kept.software.items()
        ),
        *(_access(i, a, datasets) for i, a in enumerate(approvals)),
    ]
    if kept.software:
        graph.append(
            {
                "@id": "#engine",
                "@type": "OrganizeAction",
                "name": "Orchestration of the run",
                "agent": _ref("#federation"),
                "instrument": [_ref(_software(n, v)) for n, v in kept.software.items()],
                "result": _ref(action),
            }
        )
    return {"@context": CONTEXT, "@graph": graph}


def _without(kept: Summary) -> str:
    """Who is not in the answer, for whoever reads one sentence of the crate."""
    if not kept.missing:
        return ""
    return " The answer is without " + "; ".join(f"{n} ({why})" for n, why in sorted(kept.missing.items())) + "."


def _datasets(kept: Summary, ids: Mapping[str, str]) -> list[Entity]:
    return [
        {
            "@id": ids[d],
            "@type": "Dataset",
            "name": d,
            "identifier": d,
            "sdPublisher": _ref(f"#node-{n}"),
            "exampleOfWork": _ref("#parameter-datasets"),
            "conditionsOfAccess": (
                "Controlled access: a data access committee decides. The data are not part of this crate and never left"
                " the node."
            ),
        }
        for n, node in kept.nodes.items()
        for d in node.datasets
    ]


def _file(results: Results, name: str, kept: Summary, proofs: Mapping[str, Proof]) -> Entity:
    path = results.folder / name
    entity: Entity = {
        "@id": name,
        "@type": "File",
        "name": TITLES.get(name, name),
        "contentSize": str(path.stat().st_size),
        "encodingFormat": MEDIA_TYPES.get(path.suffix, "text/plain"),
        "sha256": sha256_of(path),
    }
    if name in TITLES and name != "releases.json":
        entity["exampleOfWork"] = _ref(f"#output-{_output(name)}")
    release: Kept | None = next((r for r in kept.releases if r.file == name), None)
    if release is not None:
        proven = proofs.get(name, Proof(False, "not checked"))
        entity |= {
            "name": f"{kept.release_titles.get(release.name, release.name)}, released by {release.node}",
            "description": (
                f"{release.sites_released} {release.unit}s released"
                + ("" if release.sites_withheld is None else f", {release.sites_withheld} withheld")
                + "".join(f"; {count} {why}" for why, count in sorted(release.withheld.items()))
                + ". The node's signature"
                f" {'was verified' if proven.verified else 'COULD NOT BE VERIFIED: ' + proven.verdict} when this"
                " crate was made; releases.json has it, and the node's public key."
            ),
            "author": _ref(f"#node-{release.node}"),
            "exampleOfWork": _ref(f"#output-{_output(name)}"),
        }
    return entity


def _source(results: Results, name: str) -> Entity:
    suffix = Path(name).suffix
    entity: Entity = {
        "@id": name,
        "@type": "File",
        "name": name,
        "contentSize": str((results.folder / name).stat().st_size),
        "encodingFormat": SOURCES.get(suffix, "text/plain"),
    }
    return entity | ({"about": _ref(f"{WORKFLOW}/Snakefile")} if suffix == ".md" else {})


def _access(number: int, approval: Approval, datasets: Mapping[str, str]) -> Entity:
    return {
        "@id": f"#access-{number}",
        "@type": "AuthorizeAction",
        "name": f"Access to {approval.dataset} was approved" + (f" by {approval.by}" if approval.by else ""),
        "description": f"GA4GH visa of {approval.source}" if approval.source else "GA4GH visa",
        "object": _ref(datasets.get(approval.dataset, _dataset_id(approval.dataset))),
        "recipient": _ref("#user"),
        **({"startTime": _time(approval.asserted)} if approval.asserted else {}),
        **({"endTime": _time(approval.ends_at)} if approval.ends_at else {}),
    }


def _output(name: str) -> str:
    """The formal output of which a file is an example: the answer, its picture, or a release by its name."""
    return {ANSWER: "answer", COLUMNS: "answer", PACKED: "answer", PLOT: "picture", DRAWING: "picture"}.get(
        name
    ) or Path(name).stem


def _dataset_id(dataset: str) -> str:
    if EGA.fullmatch(dataset):
        return f"https://identifiers.org/ega.dataset:{dataset}"
    if DOI.fullmatch(dataset):
        return f"https://doi.org/{dataset}"
    return dataset if dataset.startswith(("https://", "http://")) else f"urn:gdi:dataset:{dataset_name(dataset)}"


def _kind(value: Any) -> str:  # a parameter's value: JSON
    return {bool: "Boolean", int: "Integer", float: "Float"}.get(type(value), "Text")


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _ref(identifier: str) -> Entity:
    return {"@id": identifier}


def _refs(identifiers: Iterable[str]) -> Entity | list[Entity]:
    """References; one alone is no list (RO-Crate 1.1)."""
    found = [_ref(i) for i in identifiers]
    return found[0] if len(found) == 1 else found


def _software(name: str, version: str) -> str:
    return (
        f"https://pypi.org/project/{name}/{version}/"
        if name != "gdi-workflows"
        else f"{HOMES[name]}#gdi-workflows-{version}"
    )


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
