"""An Airflow DAG for each workflow of the catalogue (GDI_WORKFLOWS, or this checkout's workflows/), or for each
workflow and team (GDI_ISOLATION=team).

Bad entries are told by catalogue_errors.py, so that they hold up nobody.
"""

from gdi_operators.catalogue import dag_of, folder_of, one_or_all

for _offer in one_or_all(folder_of(__file__)):
    globals()[f"workflow_{_offer.dag_id}"] = dag_of(
        _offer.entry, _offer.team
    )  # airflow finds a dag by its module's globals
