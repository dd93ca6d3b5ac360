"""The steps of a run, one operator a file."""

from gdi_operators.operators.add_late_parts import AddLatePartsOperator
from gdi_operators.operators.admit_run import AdmitRunOperator
from gdi_operators.operators.close_leftover_runs import CloseLeftoverRunsOperator
from gdi_operators.operators.close_run import CloseRunOperator
from gdi_operators.operators.gather import GatherOperator
from gdi_operators.operators.release import ReleaseOperator
from gdi_operators.operators.rule_watcher import RuleWatcher, watch_rules
from gdi_operators.operators.snakemake import SnakemakeOperator
from gdi_operators.operators.start_due import StartDueOperator

__all__ = [
    "AddLatePartsOperator",
    "AdmitRunOperator",
    "CloseLeftoverRunsOperator",
    "CloseRunOperator",
    "GatherOperator",
    "ReleaseOperator",
    "RuleWatcher",
    "SnakemakeOperator",
    "StartDueOperator",
    "watch_rules",
]
