"""An Airflow DAG for each workflow of the catalogue (GDI_WORKFLOWS, or this checkout's workflows/).

Bad entries are told by catalogue_errors.py, so that they hold up nobody.
"""

import os
from pathlib import Path

from gdi_operators.catalogue import dag_of, scan

folder = Path(os.environ.get("GDI_WORKFLOWS") or Path(__file__).resolve().parent.parent / "workflows")
for _entry in scan(folder)[0]:
    globals()[f"workflow_{_entry.workflow.name}"] = dag_of(_entry)
