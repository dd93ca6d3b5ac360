"""How runs may end: facts, and what is said of them."""

from __future__ import annotations

from gdi.contracts.progress import NodeProgress
from gdi.contracts.run_endings import RunFacts, RunStanding, StepFacts
from gdi.contracts.runs import Failing

NODES = (
    NodeProgress(node="node-a", state="running", done=3, total=8),
    NodeProgress(node="node-b", state="running", done=1, total=8),
)


DONE = tuple(n.model_copy(update={"state": "success", "done": 8}) for n in NODES)


FAILED_ANALYSE = (StepFacts("analyse", "failed", "node-b"), StepFacts("gather", "upstream_failed"))


CASES: list[tuple[str, RunFacts, RunStanding, str, str]] = [
    ("not there yet", RunFacts(), "starting", "on its way to Airflow", ""),
    ("queued", RunFacts(airflow="queued"), "queued", "waits for its turn", ""),
    ("admission", RunFacts(airflow="running"), "admitting", "checks your consent", ""),
    ("no job yet", RunFacts(airflow="running", admitted=True), "running", "first jobs", ""),
    (
        "jobs",
        RunFacts(airflow="running", admitted=True, nodes=NODES),
        "running",
        "4 of 16 jobs are done at 2 nodes",
        "",
    ),
    ("releasing", RunFacts(airflow="running", admitted=True, nodes=DONE), "running", "check what may leave", ""),
    (
        "waiting for a person",
        RunFacts(airflow="running", admitted=True, nodes=DONE, steps=(StepFacts("release", "deferred", "node-b"),)),
        "waiting",
        "A person of node-b reviews",
        "",
    ),
    (
        "a node failed, others still work",
        RunFacts(airflow="running", admitted=True, failing=Failing(node="node-b", reason="disk full")),
        "stopping",
        "node-b failed: disk full. The other nodes are being stopped.",
        "",
    ),
    (
        "being ended",
        RunFacts(airflow="failed", admitted=True, nodes=NODES, closing=True),
        "stopping",
        "The run was ended; its tasks at the nodes are being cancelled.",
        "",
    ),
    (
        "stopped in Airflow",
        RunFacts(airflow="failed", admitted=True, nodes=NODES, stop_requested=True, stopped_by="airflow"),
        "stopped",
        "Somebody stopped the run in Airflow; what it was doing",
        "",
    ),
    (
        "stopped by a committee",
        RunFacts(airflow="running", admitted=True, stop_requested=True, stopped_by="dac: Outside of the permit."),
        "stopping",
        "The access committee dac stopped the run (Outside of the permit);",
        "",
    ),
    (
        "well",
        RunFacts(airflow="success", admitted=True, outcome="success", released=350, unit="site"),
        "succeeded",
        "350 sites left",
        "",
    ),
    (
        "well, with an answer",
        RunFacts(
            airflow="success", admitted=True, outcome="success", released=350, unit="site", rows=1890, row="allele"
        ),
        "succeeded",
        "The answer is there: 1,890 alleles.",
        "",
    ),
    (
        "all withheld",
        RunFacts(airflow="success", admitted=True, outcome="success", released=0),
        "empty",
        "withheld everything",
        "",
    ),
    (
        "a node is missing",
        RunFacts(airflow="success", admitted=True, outcome="success", released=3, missing={"node-b": "it was away"}),
        "succeeded",
        "but without node-b (it was away)",
        "",
    ),
    (
        "refused start",
        RunFacts(airflow="failed", admitted=False, steps=(StepFacts("admit", "failed"),), reason="No access to EGAD1."),
        "refused",
        "Nothing was started: No access to EGAD1.",
        "access",
    ),
    (
        "refused release",
        RunFacts(
            airflow="failed",
            admitted=True,
            outcome="failed",
            steps=(StepFacts("release", "failed", "node-a"), StepFacts("gather", "upstream_failed")),
            reason="node node-a refused the release counts.",
        ),
        "refused",
        "Nothing was gathered: node node-a refused the release counts.",
        "access",
    ),
    (
        "failed at a node",
        RunFacts(
            airflow="failed",
            admitted=True,
            outcome="failed",
            failing=Failing(node="node-b", reason="bad line", dataset="EGAD2"),
        ),
        "failed",
        "node-b failed (dataset EGAD2): bad line.",
        "workflow",
    ),
    (
        "failed and nobody said why",
        RunFacts(airflow="failed", admitted=True, outcome="failed", steps=FAILED_ANALYSE),
        "failed",
        "The analysis failed at node-b.",
        "workflow",
    ),
    (
        "gather failed",
        RunFacts(
            airflow="failed",
            admitted=True,
            outcome="failed",
            steps=(StepFacts("gather", "failed"),),
            reason="No release counts of node-b.",
        ),
        "failed",
        "could not be put together: No release counts of node-b.",
        "system",
    ),
    (
        "stopped by its user",
        RunFacts(airflow="failed", admitted=True, outcome="cancelled", stop_requested=True),
        "stopped",
        "You stopped the run",
        "",
    ),
    (
        "being stopped",
        RunFacts(airflow="failed", admitted=True, closing=True, stop_requested=True),
        "stopping",
        "tasks at the nodes are being cancelled",
        "",
    ),
    (
        "stopped by hand",
        RunFacts(airflow="failed", admitted=True, outcome="cancelled"),
        "stopped",
        "Somebody stopped the run by hand",
        "",
    ),
    (
        "marked as failed",
        RunFacts(airflow="failed", admitted=True, outcome="success"),
        "stopped",
        "marked the run as failed by hand",
        "",
    ),
    (
        "marked as success",
        RunFacts(airflow="success", admitted=True, outcome="failed"),
        "failed",
        "marked the run as a success by hand",
        "system",
    ),
    (
        "marked as success at once",
        RunFacts(airflow="success", admitted=False),
        "refused",
        "marked as a success by hand",
        "access",
    ),
    (
        "not closed in order",
        RunFacts(airflow="failed", admitted=True, outcome="failed", steps=(StepFacts("close", "failed"),)),
        "failed",
        "not ended in order",
        "system",
    ),
]
