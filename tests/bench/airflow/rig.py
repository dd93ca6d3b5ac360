"""What several parts need: a broker of one node whose progress the part writes, and a real Airflow with the workflow
`probe` in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.airflow_kit import RealAirflow, RulesWorld, wait_for


@contextmanager
def probe(
    work: Path, rules: Sequence[str], *, database: str = "", **config: str
) -> Iterator[tuple[RulesWorld, RealAirflow]]:
    """Up, with the DAG `probe` of these rules. `database`: a URL, where it is not SQLite; `config`: Airflow's
    environment.
    """
    world = RulesWorld(work, nodes=1, rules=tuple(rules))
    try:
        world.start_host()
        airflow = RealAirflow(work / "airflow", world.environment, database=database, **config)
        try:
            airflow.start()
            wait_for("the DAG", lambda: airflow.has_dag("probe"), timeout=120)
            yield world, airflow
        finally:
            airflow.close()
    finally:
        world.close()
