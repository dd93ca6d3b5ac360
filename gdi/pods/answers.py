"""What an answer of the Kubernetes API means: its JSON, or an error of ours that says whether it may pass.

The answer's form is Kubernetes' `Status` (https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/).
"""

from __future__ import annotations

import json
import re
from typing import Any

from gdi.kit.problem import ProblemError
from gdi.kit.retry import Failure, RetryPolicy
from gdi.pods.model import LauncherError

# an API server that has just started answers 401 or 403 until it has read its roles: a refusal that lasts longer is one
REFUSED_SECONDS = 20.0
MAX_ANSWER = 8 * 1024 * 1024  # bytes
ROLES = RetryPolicy(total=float("inf"), first=1, longest=1, jitter=(0.7, 1.3))
# What an API server says to a deletion, and to a patch, that names another uid (1.34).
OTHER_UID = re.compile(r"UID in the precondition|metadata\.uid: Invalid value")
Json = dict[str, Any]


class AbsentError(Exception):
    """404: there is no such object; or another one of that name, by its uid, which the request named."""


class ExistsError(Exception):
    """409 AlreadyExists."""


class RefusedError(LauncherError):
    """401, or 403 by the cluster's roles."""


def may_not_know_its_roles(failure: Failure) -> bool:
    """Whether a refused call is to be made again: for REFUSED_SECONDS (with the policy ROLES)."""
    return isinstance(failure.error, RefusedError) and failure.since <= REFUSED_SECONDS


def judge(status: int, body: bytes, what: str) -> Json:
    """The JSON of an answer to `what` ("creating pod x"), or our error for it: AbsentError, ExistsError, RefusedError,
    LauncherError. Quota exceeded and a server that is away may pass: ProblemError 429 and 503.
    """
    good = 200 <= status <= 299
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        if good:
            raise ProblemError(
                502,
                "cluster-away",
                f"{what}: the Kubernetes API's answer is no JSON, or cut short.",
                action="It is tried again.",
            )
        answer = {}
    if good:
        return answer
    message = " ".join(str(answer.get("message") or f"status {status}").split())[:700]
    reason = str(answer.get("reason") or "")
    if status == 404 or (status in (409, 422) and OTHER_UID.search(message)):
        raise AbsentError(message)
    if status == 409 and reason == "AlreadyExists":
        raise ExistsError(message)
    if status == 403 and "exceeded quota" in message:
        raise ProblemError(
            429,
            "quota-exceeded",
            f"{what}: {message}.",
            action="It is tried again as other runs end; else raise the namespace's ResourceQuota.",
        )
    if status in (401, 403):
        refused = (
            RefusedError if status == 401 or " cannot " in message else LauncherError
        )  # else by admission: a pod security standard, a policy
        raise refused(
            f"{what}: the cluster refuses this ({status}): {message}. See the Role of the service account that starts"
            " pods (Airflow's in charts/gdi, runs.yaml; the agent's in charts/gdi-node, agent.yaml)"
        )
    if status in (408, 409, 429) or status >= 500:
        raise ProblemError(
            503, "cluster-away", f"{what}: the Kubernetes API answers {status}: {message}.", action="It is tried again."
        )
    raise LauncherError(f"{what}: the cluster refuses the request ({status}): {message}")


def away(what: str, error: BaseException) -> ProblemError:
    """The error for a server that does not answer: ProblemError 503, which may pass."""
    return ProblemError(
        503,
        "cluster-away",
        f"{what}: the Kubernetes API does not answer ({type(error).__name__}).",
        action="It is tried again.",
    )
