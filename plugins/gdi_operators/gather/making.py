"""An answer of what the nodes released: each file fetched and proven, merged by its kind, kept with where all came
from. By the run's own gather task, and where a part comes late.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from airflow.sdk.exceptions import AirflowException, AirflowFailException

from gdi.contracts import broker_api as m
from gdi.contracts import cohorts, needed
from gdi.contracts.workflow import CatalogueEntry
from gdi.releases.columns import SUFFIX, sha256_of
from gdi.releases.kind import BadReleaseError
from gdi.releases.registry import kind_of
from gdi.releases.signature import NotProvenError, check_sha256, signing_key
from gdi.result_store.model import NothingStoredError, StoreAwayError, TooManyBytesError, release_key
from gdi_operators import admitted_workflow
from gdi_operators.gather import keep, merge, versions
from gdi_operators.hooks.gateway import GatewayClient
from gdi_operators.hooks.token_broker import TokenBrokerHook
from gdi_operators.results import store
from gdi_operators.results.folder import ANSWER, COLUMNS, PLOT, SUMMARY, Kept, Summary, release_file, twice_in
from gdi_operators.results.whole_file import write
from gdi_operators.runs import NODE, item_of
from gdi_operators.settings import settings

log = logging.getLogger(__name__)


def answer_of(
    hook: TokenBrokerHook,
    run: m.Run,
    entry: CatalogueEntry,
    folder: Path,
    released: list[dict[str, Any]],
    origin: dict[str, Any],
) -> dict[str, Any]:
    """Makes, keeps and publishes the answer of these releases (the results of ReleaseOperator); GatherOperator's
    result. `origin`: of `keep.origin`. A release that lies in `folder` already is not fetched again, but proven.
    """
    result: dict[str, Any] = {"run": run.id, "folder": str(folder), "nodes": [i.node for i in run.plan]}
    answer_kind, missing = "", set[str]()
    earlier = versions.begin(folder, released)
    version = len(earlier) + 1
    for declared in entry.workflow.releases:
        parts = {str(r["node"]): r for r in released if r["name"] == declared.name}
        without = [i.node for i in run.plan if i.node not in parts]
        planned = [i.node for i in run.plan]
        if without and not needed.possible(needed.read(run.needed), planned, without):
            raise AirflowFailException(
                f"No release {declared.name} of {', '.join(without)}: clear the task release of these nodes."
            )
        if without:
            log.warning("The answer is without %s.", ", ".join(without))
            missing.update(without)
            result["nodes"] = [node for node in planned if node in parts]
        suffix = kind_of(declared.kind).suffix
        kept = {node: _kept(hook, run, folder, part, declared.name, suffix) for node, part in parts.items()}
        for node, part in parts.items():
            part["suffix"] = kept[node].suffix
        if declared.merge:
            answer_kind = declared.kind
            title = versions.title_of(entry.workflow.title, version, without)
            if whose := cohorts.chosen((origin.get("parameters") or {}).get(cohorts.PARAMETER)).words:
                title = f"{title}: {whose}"
            if twice := twice_in(map(Kept.model_validate, released), {i.node: i.datasets for i in run.plan}):
                log.warning("%s", " ".join(twice))
                title = f"{title} · some people counted twice"
            result |= _merged(declared.kind, kept, result["nodes"], folder, title, without)
    progress = hook.progress(run.id) if missing else None
    admitted_workflow.keep(entry, run)
    summary = summary_of(run, released) | origin
    summary |= {"answer_version": version, "earlier": [one.model_dump() for one in earlier]}
    summary["missing"] = versions.reasons(run, progress, sorted(missing))
    result |= {"version": version, "missing": summary["missing"]}
    if answer_kind:
        summary |= {"answer_kind": answer_kind, "answer_rows": result[f"{kind_of(answer_kind).row}s"]}
    text = Summary.model_validate(summary).model_dump_json(indent=1)  # as the Results tab reads it
    write(folder / SUMMARY, lambda f: f.write_text(text))
    store.publish(run.id, folder)
    return {**result, "releases": str(folder / SUMMARY)}


def _kept(hook: TokenBrokerHook, run: m.Run, folder: Path, part: dict[str, Any], name: str, suffix: str) -> Path:
    """The release's file in the folder, proven."""
    node = str(part["node"])
    for one in (suffix, SUFFIX):
        file = folder / release_file(node, name, one)
        if file.is_file() and sha256_of(file) == part["sha256"]:
            _prove(run, part, str(part["sha256"]))
            return file
    return keep.release(folder, node, name, suffix, partial(_fetch, hook, run, part))


def _fetch(hook: TokenBrokerHook, run: m.Run, part: dict[str, Any], file: Path) -> None:
    """Into `file`, and proven."""
    item = item_of(run, str(part["node"]))
    if item.placement == NODE:
        sha256 = _pushed(run.id, item.node, part, file)
    else:
        gateway = GatewayClient(hook, run.id, item.model_dump(mode="json"))
        gateway.fetch(str(part["name"]), file, limit=settings().max_release_bytes)
        sha256 = sha256_of(file)
    _prove(run, part, sha256)
    size = file.stat().st_size
    log.info("Fetched %s of %s: %d bytes, signature verified.", part["name"], part["node"], size)


def _prove(run: m.Run, part: dict[str, Any], sha256: str) -> None:
    item = item_of(run, str(part["node"]))
    try:
        check_sha256(
            sha256,
            part,
            public_key=signing_key(str(part["signature"]), [item.public_key, *item.other_keys]),
            run=run.id,
            digest=run.digest,
            workflow=run.workflow,
            attempt=run.attempt,
        )
    except NotProvenError as error:
        raise AirflowFailException(f"{error} It is not used; tell the node's operator.") from None


def _merged(
    kind: str, releases: dict[str, Path], nodes: list[str], folder: Path, title: str, missing: list[str]
) -> dict[str, Any]:
    try:
        size = merge.answer(kind_of(kind), releases, nodes, folder, title=title, missing=missing)
    except BadReleaseError as error:
        raise AirflowFailException(str(error)) from None
    noun = f"{kind_of(kind).row}s"
    answer = next(f for f in (folder / ANSWER, folder / COLUMNS) if f.is_file())
    log.info(
        "%d %s, of which %d are intervals, or have no numbers, because of a node. Answer: %s",
        size.rows,
        noun,
        size.withheld,
        answer,
    )
    return {"answer": str(answer), "plot": str(folder / PLOT), noun: size.rows, "withheld": size.withheld}


def summary_of(run: m.Run, released: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Of `releases.json`, what the run and its releases are."""
    return {
        "run": run.id,
        "attempt": run.attempt,
        "workflow": run.workflow,
        "digest": run.digest,
        "user": run.user,
        "datasets": run.datasets,
        "nodes": {
            i.node: {"datasets": i.datasets, "public_key": i.public_key, "other_keys": i.other_keys} for i in run.plan
        },
        "releases": list(released),
    }


def _pushed(run: str, node: str, part: dict[str, Any], file: Path) -> str:
    """What the node pushed into the coordinator's store, in pieces into `file`; its SHA-256."""
    what = f"The release {part['name']} of {node}"
    try:
        key = release_key(run, node, str(part["name"]), str(part["sha256"]))
    except ValueError:
        raise AirflowFailException(f"The release of {node} has no name and checksum.") from None
    try:
        with file.open("wb") as into:
            return store.need().fetch(key, into, settings().max_release_bytes)
    except NothingStoredError:
        raise AirflowException(f"{what} is not in the store yet.") from None
    except StoreAwayError as error:
        raise AirflowException(f"{what} cannot be read now: {error}.") from None
    except TooManyBytesError:
        raise AirflowFailException(f"{what} is larger than GDI_MAX_RELEASE_BYTES.") from None
