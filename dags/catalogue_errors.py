"""Shows the catalogue's bad entries as a DAG import error with file and field. A file of its own: Airflow stops every
DAG of a file that has an error.
"""

from gdi.contracts.workflow import CatalogueError
from gdi_operators.catalogue import complaints, folder_of

if _bad := complaints(folder_of(__file__)):
    raise CatalogueError(
        "These workflows are not offered until they are mended:\n" + "\n".join(_bad)
    )  # a dag, for Airflow's heuristic
