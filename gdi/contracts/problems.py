"""The types of problems (RFC 9457) that the rooms answer or raise: each slug once, with the statuses that it has and
what the reader can do next. `gdi.kit.problem` has the form; a slug is part of the API and does not change its meaning.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ProblemType:
    """`statuses`: of HTTP; empty where any error status may be. `action` is the usual one; where a problem is raised,
    a better one may be given.
    """

    statuses: tuple[int, ...]
    action: str


SILENCED = frozenset({"stale-attempt", "stale-workload", "run-closed", "wrong-node", "missing-scope"})
"""A gateway's words for: this process may not speak for the run any more."""
OVER = frozenset({"run-closed", "attempt-over"})
"""The broker's words for: this attempt has ended, or another has begun."""
FENCED = "workload-fenced"
"""The broker's word for: a later pod of the same node took over."""
UID_PINNED = "uid-pinned"
"""The broker's word for: another pod has had this name."""

PROBLEMS: dict[str, ProblemType] = {
    "access-denied": ProblemType((403,), "Apply for access to the datasets, then start again."),
    "access-ended": ProblemType((403,), "Apply for access again, then open the next attempt."),
    "airflow-away": ProblemType((503,), "Send it again in some seconds, a start with the same Idempotency-Key."),
    "airflow-refuses": ProblemType((502, 503), "Tell the operator of the coordinator."),
    "archive-error": ProblemType((502,), "See the node's archive."),
    "attempt-over": ProblemType((409,), "Stop: a later attempt took over."),
    "attempt-unknown": ProblemType((409,), "Close the attempt that is open."),
    "bad-answer": ProblemType((502, 421), "Try again later, or correct the server's address."),
    "bad-attachment": ProblemType((400,), "Correct the attachment and send it again."),
    "bad-datasets": ProblemType((422,), "Name the datasets to analyse."),
    "bad-expiry": ProblemType((422,), "Choose another end for the grant."),
    "bad-notice": ProblemType((422,), "Correct where you want to be told."),
    "bad-page-token": ProblemType((422,), "Ask for the first page again."),
    "bad-parameters": ProblemType((422,), "Correct them and send them again."),
    "bad-pod-name": ProblemType((422,), "Rename it."),
    "bad-schedule": ProblemType((422,), "Correct the schedule and send it again."),
    "broker-away": ProblemType((503,), "Try again in a few seconds."),
    "changed-files": ProblemType((403,), "Ask the node's operator to open a new epoch."),
    "cluster-away": ProblemType((502, 503), "It is tried again."),
    "consent-needed": ProblemType((403,), "Give consent: POST /v1/grants, or send `consent` with the start."),
    "database-unavailable": ProblemType((503,), "Try again in some seconds; tell the operator if it stays."),
    "dataset-not-described": ProblemType((403,), "Ask the node's operator."),
    "dataset-not-granted": ProblemType(
        (403,), "Give consent for these datasets (a new grant), and start a run that names them."
    ),
    "destination-not-allowed": ProblemType((403,), "Add it to `gateways` in the process host's configuration."),
    "exchange-refused": ProblemType(
        (403,), "Sign in again with offline_access, or ask the operator to allow the token exchange."
    ),
    "forbidden": ProblemType((403,), "Send the token of the right party."),
    "forbidden-check": ProblemType((403,), "Ask the node's operator."),
    "forbidden-command": ProblemType((403,), "Tasks need none: remove it."),
    "forbidden-environment": ProblemType((403,), "Tasks need none: rename or remove it."),
    "forbidden-image": ProblemType((403,), "Use one that its policy allows."),
    "forbidden-location": ProblemType((403,), "Use sda://DATASET/path or workspace://RUN/path of this run."),
    "forbidden-path": ProblemType((403,), "Use /gdi/work/… or /gdi/workflow/…."),
    "forbidden-tag": ProblemType((403,), "Leave it out."),
    "forbidden-workflow": ProblemType((403,), "Ask the node's operator to allow this version."),
    "grant-inactive": ProblemType((403,), "Give consent (a new grant), then start again."),
    "grant-not-yours": ProblemType((403,), "Use a grant of your own, or give consent first."),
    "grant-unknown": ProblemType((404,), "List your grants: GET /v1/grants."),
    "host-full": ProblemType((503,), "Try again later."),
    "http-error": ProblemType((), "See the server's log."),
    "idempotency-mismatch": ProblemType((409,), "Use a new Idempotency-Key for a new start."),
    "internal": ProblemType((500,), "Try again; if it stays, tell the operator."),
    "introspection-unavailable": ProblemType((503,), "Try again shortly."),
    "invalid-page-token": ProblemType((422,), "Start the listing again."),
    "invalid-request": ProblemType((400, 422), "Correct the named fields and send it again."),
    "invalid-tag": ProblemType((422,), "Set the tags: a job's key must be stable over retries."),
    "invalid-token": ProblemType((401,), "Get a fresh token."),
    "issuer-away": ProblemType((503,), "Try again; if it stays, the operator looks at the enrolled jwks_url."),
    "ledger-incomplete": ProblemType((503,), "Tell the node's operator: a file of the ledger is lost or was changed."),
    "logs-closed": ProblemType((403,), "Ask the node's operator."),
    "lost-answer": ProblemType((409,), "Start again when the TES has no such task any more."),
    "method-not-allowed": ProblemType((405,), "Check the method and the path."),
    "membership-budget": ProblemType((403,), "Ask again for sites that left before."),
    "min-ttl-unavailable": ProblemType((409,), "Ask for a shorter min_ttl."),
    "missing-scope": ProblemType((403,), "Another workload of the run does this."),
    "moved": ProblemType((421,), "Give the server's own address."),
    "narrowing-refused": ProblemType(
        (502,), "The operator allows the broker's client to exchange tokens for this audience."
    ),
    "no-refresh-token": ProblemType((502,), "Sign in with the scope offline_access."),
    "no-result-store": ProblemType((409,), "The broker's operator sets RESULT_STORE."),
    "no-such-file": ProblemType((404,), "List the run's results."),
    "no-team": ProblemType((403,), "Ask the operator to add you to a team."),
    "no-terminal-sign-in": ProblemType((404,), "Ask its operator."),
    "node-not-in-plan": ProblemType((403,), "Name a node of the plan."),
    "not-acceptable": ProblemType((406,), "Accept the media type that it has."),
    "not-beside": ProblemType((403,), "Ask for what left before, or of other people: the answer says which."),
    "not-ended": ProblemType((504,), "It goes on: ask again later."),
    "launcher-refused": ProblemType((409,), "Tell the node's operator."),
    "not-found": ProblemType((404,), "Check the path."),
    "not-open": ProblemType((403, 409), "Ask for an epoch's cohort that is open."),
    "nothing-to-review": ProblemType((404,), "It was decided, or never asked for."),
    "order-conflict": ProblemType((409,), "Look at the order: it is as the answer says."),
    "order-unknown": ProblemType((404,), "Put the order first."),
    "other-people": ProblemType((422,), "Count everybody of the datasets, once, or ask for a new epoch."),
    "other-run": ProblemType((403,), "Use the run's own token."),
    "placement-differs": ProblemType((403, 409), "Both operators agree on one placement."),
    "pod-ended": ProblemType((409,), "Create one with another name."),
    "pod-exists": ProblemType((409,), "Use another name."),
    "preflight-unknown": ProblemType((404,), "Ask for work."),
    "provider-refused": ProblemType((502,), "The operator looks at the broker's OIDC client."),
    "provider-unavailable": ProblemType((503,), "Try again in a minute."),
    "queue-full": ProblemType((429,), "Submit again when some have ended."),
    "quota-exceeded": ProblemType(
        (429,), "It is tried again as other runs end; else raise the namespace's ResourceQuota."
    ),
    "refresh-busy": ProblemType((503,), "Try again in some seconds."),
    "rejected": ProblemType((422,), "Correct the task."),
    "release-busy": ProblemType((503,), "Try again in some seconds."),
    "release-damaged": ProblemType((502,), "Tell the node's operator, who looks at the node's storage."),
    "release-retracted": ProblemType((410,), "Do not use the numbers; ask the node's operator."),
    "release-mismatch": ProblemType((403,), "Ask for the run's own releases only."),
    "release-refused": ProblemType((422,), "Correct what the workflow writes."),
    "release-too-large": ProblemType((413,), "Write a smaller release."),
    "rules-changed": ProblemType((409,), "Refuse it, and start a new run."),
    "run-closed": ProblemType((403, 409), "Stop: the run is over; or start a new attempt."),
    "run-mismatch": ProblemType((409,), "Start a new run with a new ticket."),
    "run-unknown": ProblemType((404,), "Check the run's id."),
    "sandbox-failed": ProblemType((409,), "See the process host's log."),
    "sign-in-refused": ProblemType((403,), "Sign in again."),
    "signed-out": ProblemType((401,), "Sign in: gdi login --portal URL."),
    "stale-attempt": ProblemType((403,), "Stop: the later attempt goes on."),
    "stale-workload": ProblemType((403,), "Stop: the later one goes on."),
    "stop-stays": ProblemType((409,), "The person starts a new run where they may."),
    "stop-unknown": ProblemType((404,), "List the stops."),
    "stopped-by-committee": ProblemType((403,), "Ask that committee."),
    "still-running": ProblemType((409,), "Cancel the task at the TES, then start again."),
    "storage-away": ProblemType((503,), "Try again in a few seconds."),
    "store-away": ProblemType((503,), "It is tried again by itself."),
    "task-given-up": ProblemType((503,), "Send it again."),
    "task-unknown": ProblemType((404,), "Check the id, and who submitted it."),
    "tes-away": ProblemType((503,), "Try again in a few seconds."),
    "tes-refused": ProblemType((403,), "Check the user's rights at this node."),
    "tes-rejected": ProblemType((422,), "Correct the task."),
    "ticket-expired": ProblemType((403,), "Start again with a new ticket."),
    "ticket-mismatch": ProblemType((403,), "Start again with a new ticket."),
    "ticket-needed": ProblemType((403,), "Make a ticket and start with it."),
    "ticket-or-grant": ProblemType((422,), "Send the ticket of this start, or your grant."),
    "ticket-unknown": ProblemType((403,), "Start again with a new ticket."),
    "ticket-used": ProblemType((403,), "Start again with a new ticket."),
    "token-endpoint-away": ProblemType((503,), "It is tried again."),
    "token-missing": ProblemType((503,), "It is tried again until the file is written."),
    "token-refused": ProblemType((503,), "It is tried again with a fresh token."),
    "too-large": ProblemType((403, 413), "Send less at once."),
    "too-many-bytes": ProblemType((403, 429), "Send less."),
    "too-many-events": ProblemType((429,), "Report less."),
    "too-many-files": ProblemType((403,), "Split the job."),
    "too-many-grants": ProblemType((409,), "Revoke some: DELETE /v1/grants/{id}."),
    "too-many-requests": ProblemType((429,), "Try again after the seconds of Retry-After."),
    "too-many-sources": ProblemType((403,), "Keep data out of the workflow's folder: make it a dataset."),
    "too-many-tasks": ProblemType((403,), "Make the jobs larger."),
    "too-many-workloads": ProblemType((409,), "Start a new run."),
    "too-much": ProblemType((503,), "It is tried again with less at once."),
    "uid-pinned": ProblemType((409,), "Register a new pod under another name."),
    "unauthenticated": ProblemType((401,), "Send a token that is in force."),
    "unknown-attempt": ProblemType((403,), "Have the attempt admitted first."),
    "unknown-kind": ProblemType((422,), "Use a kind of release that is installed."),
    "unknown-pod": ProblemType((404,), "Create it first."),
    "unknown-release": ProblemType((404,), "Ask for the release first."),
    "unknown-run": ProblemType((403,), "Check the run's plan."),
    "unknown-task": ProblemType((404,), "Check the link."),
    "unknown-workflow": ProblemType((404,), "Install it beside the others, then retry the task."),
    "unsupported-parameters": ProblemType((400,), "Leave them out, or set backend_parameters_strict to false."),
    "userinfo-refused": ProblemType((502,), "Try again; if it stays, sign in and give consent again."),
    "vault-unavailable": ProblemType((503,), "Try again in some seconds; tell the operator if it stays."),
    "visa-issuer-unavailable": ProblemType((503,), "Try again in a minute; tell the operator if it stays."),
    "workflow-changed": ProblemType(
        (403, 409), "Start the analysis again: a run keeps the version it was admitted with."
    ),
    "workflow-not-approved": ProblemType((400,), "Use a workflow of the catalogue, or ask for its approval."),
    "workflow-not-granted": ProblemType((403,), "Give consent for it (a new grant)."),
    "workflow-unknown": ProblemType((404,), "Airflow's workload uploads it."),
    "workflow-not-offered": ProblemType((409,), "Try again in a minute."),
    "workflow-unreadable": ProblemType((409,), "Mend the catalogue and retry."),
    "workload-fenced": ProblemType((403, 409), "Stop: a later pod took over."),
    "workload-mismatch": ProblemType((409,), "Use another name."),
    "workload-unknown": ProblemType((403, 409), "Register it first, without uid."),
    "workload-unpinned": ProblemType((403,), "Pin the pod's uid first."),
    "wrong-audience": ProblemType((403,), "Use an audience of the plan."),
    "wrong-chunk": ProblemType((422,), "Send chunks of 8 MiB."),
    "wrong-hash": ProblemType((422,), "Send the file again, whole."),
    "wrong-issuer": ProblemType((403,), "Use the cluster's own identity token."),
    "wrong-node": ProblemType((403,), "Use that node's gateway."),
    "wrong-offset": ProblemType((409,), "Go on where the answer says."),
    "wrong-source": ProblemType((403,), "Set source to the pod's name."),
    "wrong-uid": ProblemType((403,), "Use the identity of the registered pod."),
}
