"""A catalogue's workflows are brought to the broker before anybody runs them, so that nodes can judge them at a
preflight (decision 859).
"""

from __future__ import annotations

import logging
from pathlib import Path

from gdi.broker_client.client import BrokerClient
from gdi.contracts.ids import WORKFLOW_NAME, matches
from gdi.contracts.orders import MAX_WORKFLOWS
from gdi.contracts.packed_workflow import packed
from gdi.contracts.workflow import CatalogueError
from gdi.contracts.workflow_files import digest_of, load
from gdi.kit.problem import ProblemError

log = logging.getLogger(__name__)


def bring_workflows(broker: BrokerClient, catalogue: Path) -> list[str]:
    """Uploads what the broker has not of the folder's entries; their names. An entry that is wrong, or that is changed
    meanwhile, is left out: the next time may bring it. ProblemError, httpx.HTTPError where the broker does not say what
    it lacks.
    """
    folders: dict[str, Path] = {}
    for path in sorted(catalogue.iterdir()):
        if not matches(WORKFLOW_NAME, path.name) or not (path / "workflow.yaml").is_file():
            continue
        try:
            folders[digest_of(path)] = path
        except (CatalogueError, OSError) as error:
            log.info("%s is not brought to the broker: %s", path.name, error)
    digests = list(folders)
    brought = []
    for at in range(0, len(digests), MAX_WORKFLOWS):
        for digest in broker.missing_workflows(digests[at : at + MAX_WORKFLOWS]):
            folder = folders[digest]
            try:
                load(folder)
                broker.put_workflow(digest, packed(folder))
            except (CatalogueError, OSError, ProblemError) as error:
                log.info("%s is not brought to the broker: %s", folder.name, error)
            else:
                brought.append(folder.name)
    return brought
