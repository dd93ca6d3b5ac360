"""The workflow as a run was admitted with it: kept beside its results, so that a change in the catalogue does no harm
to a run that is under way (decision 754).
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path

from airflow.sdk.exceptions import AirflowFailException

from gdi.contracts import broker_api as m
from gdi.contracts.workflow import CatalogueEntry, CatalogueError
from gdi.contracts.workflow_files import README, files_with_digest, load
from gdi.result_store.model import StoreAwayError
from gdi_operators.results import store
from gdi_operators.settings import settings

log = logging.getLogger(__name__)
WORKFLOW = "workflow"  # below a run's results


def entry_of(workflow: str) -> CatalogueEntry:
    """The workflow as it lies in the catalogue now. AirflowFailException naming file and field where it is wrong."""
    try:
        return load(settings().need("workflows") / workflow)
    except CatalogueError as error:
        raise AirflowFailException(f"The workflow {workflow} cannot be used: {error}") from None


def entry_of_run(workflow: str, run: m.Run) -> CatalogueEntry:
    """The workflow as the run was admitted with it, whatever lies in the catalogue by now. AirflowFailException where
    it was not kept, and the catalogue has another version.
    """
    found = ""
    _bring(run)
    for folder in (_folder(run), settings().need("workflows") / workflow):
        try:
            entry = load(folder, name=workflow) if folder is not None else None
        except (CatalogueError, OSError) as error:
            found = found or str(error)
            continue
        if entry is not None and entry.digest == run.digest:
            return entry
        if entry is not None and (files := files_with_digest(entry.folder, run.digest)):  # as before decision 849
            return entry.model_copy(update={"digest": run.digest, "files": files})
        found = entry.digest if entry is not None else found
    raise AirflowFailException(
        f"The workflow {workflow} of run {run.id} is not there any more: the run was admitted with {run.digest}, which"
        f" was not kept, and the catalogue has: {found or 'none'}. Start a new run."
    )


def keep(entry: CatalogueEntry, run: m.Run) -> None:
    """Copies the workflow's files beside the run's results, where they are not yet. Nothing without GDI_RESULTS_DIR, or
    where the catalogue was changed in between: then the catalogue's version is held against the run's as ever.
    """
    target = _folder(run)
    if target is None or target.exists() or entry.digest != run.digest:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=target.parent, prefix=".workflow-"))
    try:
        readme = [README] if (entry.folder / README).is_file() else []  # for who reads the answer's crate
        for name in [*entry.files, *readme]:
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(entry.folder / name, part / name)
        if load(part, name=entry.workflow.name).digest == run.digest:
            part.chmod(0o755)
            part.rename(target)  # refused where another try was faster: then it is there
            store.publish(run.id, target.parent)
    except (CatalogueError, OSError, StoreAwayError) as error:
        if not target.exists() or isinstance(error, StoreAwayError):
            log.warning("The workflow's files could not be kept beside the results: %s", error)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _bring(run: m.Run) -> None:
    """From the store, where another worker admitted the run."""
    folder = _folder(run)
    if folder is not None and not folder.exists():
        try:
            store.bring(run.id, folder.parent)
        except StoreAwayError as error:
            log.warning("The admitted workflow could not be brought: %s", error)


def _folder(run: m.Run) -> Path | None:
    base = settings().results_dir
    return None if base is None else base / run.id / WORKFLOW
