"""`gdi workflow test`: the workflow as a user would start it, on a federation of one node that lives as long as the
run.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from gdi.contracts.workflow import CatalogueEntry
from gdi.contracts.workflow_files import files_of
from gdi.local_federation.demo import run
from gdi.local_federation.display import ProgressDisplay
from gdi.local_federation.federation import COHORT, Federation
from gdi.releases.registry import kind_of


def trial(
    entry: CatalogueEntry, parameters: dict[str, Any], work: Path, console: Console, *, vcf: Path | None, timeout: float
) -> int:
    """0 where the run succeeded; RunFailed with the reasons where it did not."""
    catalogue = work / "workflows" / entry.workflow.name
    for file in [*files_of(entry.folder), "rules.lock"]:
        (catalogue / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(entry.folder / file, catalogue / file)
    with Federation(work / "federation", nodes=1, vcf=vcf or COHORT, workflows=catalogue.parent) as federation:
        with console.status("starting a federation of one node"):
            federation.start()
        with ProgressDisplay(console) as display:
            _, broker_run = run(
                federation, workflow=entry.workflow.name, parameters=parameters, timeout=timeout, show=display.show
            )
        released = (
            json.loads((federation.layout.results / broker_run / "releases.json").read_text())["releases"]
            if entry.workflow.releases
            else []
        )
    console.print(Text(f"{entry.workflow.name} succeeded", "bold green"))
    for release in released:
        console.print(
            f"  {release['name']}: {release['sites_released']} {kind_of(release['kind']).unit}s released,"
            f" {release['bytes']} bytes"
        )
    return 0
