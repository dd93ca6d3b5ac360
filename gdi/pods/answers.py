"""What an answer of the Kubernetes API means: its JSON, or an error of ours that says whether it may pass.

A refusal's form is Kubernetes' `Status` (https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/);
any other is a proxy's, or a server's that is just being replaced, and says nothing about an object.
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
    if status < 500 and answer.get("kind") != "Status":
        raise ProblemError(
            503,
            "cluster-away",
            f"{what}: answered with {status} by something that is not the Kubernetes API (a proxy's page, it may be).",
            action="It is tried again; else look at what stands before the API server.",
        )
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


def object_of(answer: Json, what: str) -> Json:
    """The object that was asked for. ProblemError 502 where the answer is another thing, though it is JSON."""
    meta = answer.get("metadata")
    if not (isinstance(meta, dict) and meta.get("name") and meta.get("uid")):
        raise _other_thing(what)
    return answer


def items_of(answer: Json, what: str) -> list[Json]:
    """A listing's objects; ProblemError 502 where it is none, since nothing listed means that nothing is there."""
    items = answer.get("items", answer)
    if not isinstance(items, list | None) or not all(isinstance(one, dict) for one in items or []):
        raise _other_thing(what)
    return [object_of(one, what) for one in items or []]


def keys_of(answer: Json, what: str) -> Json:
    """A key set with a key. ProblemError 502."""
    keys = answer.get("keys")
    if not (isinstance(keys, list) and keys and all(isinstance(key, dict) for key in keys)):
        raise _other_thing(what)
    return answer


def _other_thing(what: str) -> ProblemError:
    return ProblemError(
        502,
        "cluster-away",
        f"{what}: the answer is JSON, but not what the Kubernetes API gives.",
        action="It is tried again; else look at what stands before the API server.",
    )


def away(what: str, error: BaseException) -> ProblemError:
    """The error for a server that does not answer: ProblemError 503, which may pass."""
    return ProblemError(
        503,
        "cluster-away",
        f"{what}: the Kubernetes API does not answer ({type(error).__name__}).",
        action="It is tried again.",
    )
