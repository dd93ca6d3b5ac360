"""The broker's API, version 1, in one import: what `gdi.broker_client` sends and gets. The types are defined in the
module of their subject, from which the broker itself imports them.
"""

from gdi.contracts.audit import AuditEntry, AuditPage
from gdi.contracts.events import Event, EventBatch, EventPage, StoredEvent
from gdi.contracts.grants import (
    DueStart,
    DueStarts,
    Grant,
    GrantRequest,
    Schedule,
    ScheduleState,
    StartReport,
    Ticket,
    TicketRequest,
)
from gdi.contracts.ids import make_run_id
from gdi.contracts.jobs import JOB_STATES, JobFacts, JobState
from gdi.contracts.progress import Job, JobPage, NodeProgress, Progress, RuleProgress
from gdi.contracts.runs import (
    AdmitRequest,
    CloseRequest,
    Failing,
    OpenRuns,
    Outcome,
    PlanItem,
    Run,
    RunState,
    Workload,
    WorkloadRequest,
)
from gdi.contracts.tokens import NodeTokenRequest, Token, TokenRequest

__all__ = [
    "JOB_STATES",
    "AdmitRequest",
    "AuditEntry",
    "AuditPage",
    "CloseRequest",
    "DueStart",
    "DueStarts",
    "Event",
    "EventBatch",
    "EventPage",
    "Failing",
    "Grant",
    "GrantRequest",
    "Job",
    "JobFacts",
    "JobPage",
    "JobState",
    "NodeProgress",
    "NodeTokenRequest",
    "OpenRuns",
    "Outcome",
    "PlanItem",
    "Progress",
    "RuleProgress",
    "Run",
    "RunState",
    "Schedule",
    "ScheduleState",
    "StartReport",
    "StoredEvent",
    "Ticket",
    "TicketRequest",
    "Token",
    "TokenRequest",
    "Workload",
    "WorkloadRequest",
    "make_run_id",
]
