"""A DAG of anybody's whose worker is killed at its first try, between the pod's creation and the deferral: copied into
the DAGs' folder of test_pod_operator_airflow.py.
"""

import os
import signal
from datetime import timedelta
from typing import Any

from airflow.providers.cncf.kubernetes.callbacks import KubernetesPodOperatorCallback
from airflow.sdk import DAG

from gdi_operators.operators import AdmitRunOperator, CloseRunOperator
from gdi_operators.operators.snakemake_pod import SnakemakePodOperator


class Killed(KubernetesPodOperatorCallback):
    """After the operator's own callback: the pod is let go by now."""

    @staticmethod
    def on_pod_creation(*, context: Any, **_: Any) -> None:
        if context["ti"].try_number == 1:
            os.kill(os.getpid(), signal.SIGKILL)


with DAG("killed_worker", schedule=None, default_args={"retries": 2, "retry_delay": timedelta(seconds=1)}):
    admit = AdmitRunOperator(task_id="admit", workflow="probe")
    analyse = SnakemakePodOperator.partial(task_id="analyse", workflow="probe", callbacks=[Killed]).expand(
        item=admit.output
    )
    analyse >> CloseRunOperator(task_id="close", workflow="probe").as_teardown(
        setups=admit, on_failure_fail_dagrun=True
    )
