"""Shows the catalogue's bad entries as a DAG import error with file and field. A file of its own: Airflow stops every DAG of a file that has an error."""

from gdi_operators.catalogue import folder_of, scan

from gdi_common.workflow import CatalogueError

if _bad := scan(folder_of(__file__))[1]:
    raise CatalogueError("These workflows are not offered until they are mended:\n" + "\n".join(_bad))  # a dag, for Airflow's heuristic
