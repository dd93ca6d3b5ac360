"""Shows the catalogue's bad entries as a DAG import error with file and field. A file of its own: Airflow stops every DAG of a file that has an error."""

import os
from pathlib import Path

from gdi_operators.catalogue import scan

from gdi_common.workflow import CatalogueError

folder = Path(os.environ.get("GDI_WORKFLOWS") or Path(__file__).resolve().parent.parent / "workflows")
if _bad := scan(folder)[1]:
    raise CatalogueError("These workflows are not offered until they are mended:\n" + "\n".join(_bad))  # a dag, for Airflow's heuristic
