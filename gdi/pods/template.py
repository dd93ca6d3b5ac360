"""A pod that a DAG's author describes, and the pod that may be: the author places and sizes it within the limits of the
installation's operator; everything else of it is the manifest's. Pure; pods as JSON of the Kubernetes API.
"""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from gdi.pods.config import PodLimits, Wish
from gdi.pods.manifest import CONTAINER
from gdi.pods.model import LauncherError

Json = dict[str, Any]
PLACEMENT = ("affinity", "topologySpreadConstraints")  # where its pods run, inside the pool that the operator gives
WISHED = ("nodeSelector", "tolerations", "priorityClassName")  # within Limits, as in a run's conf
TRY = "try_number"  # `airflow kubernetes cleanup-pods` deletes ended pods that carry it, before anybody judged them
OWN = ("gdi-", "app.kubernetes.io/")  # labels and annotations that only the manifest writes


def wish_of(request: Json, limits: PodLimits) -> Wish:
    """What the author asks for of resources, selector, tolerations and priority, in the words of a run's conf, so that
    one judgement holds for both. LauncherError for what is beyond the limits.
    """
    spec = request.get("spec") or {}
    resources = _container(spec).get("resources") or {}
    requests, most = resources.get("requests") or {}, resources.get("limits") or {}
    if strange := sorted({*requests, *most} - {"cpu", "memory", "ephemeral-storage"}):
        raise LauncherError(
            f"the DAG asks for {', '.join(strange)[:200]}, which no pod of a run is given; leave it out"
        )
    values: Json = {
        "cpu": requests.get("cpu") or most.get("cpu"),
        "memory": most.get("memory") or requests.get("memory"),
        "disk": requests.get("ephemeral-storage") or most.get("ephemeral-storage"),
        "priority_class": spec.get("priorityClassName"),
        "node_selector": spec.get("nodeSelector"),
        "tolerations": spec.get("tolerations"),
    }
    try:
        wish = Wish.model_validate({key: value for key, value in values.items() if value})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(p) for p in first["loc"])
        raise LauncherError(f"the DAG asks for {place} in a way that is not understood: {first['msg']}") from None
    if wrong := limits.exceeded(wish):
        raise LauncherError(f"the DAG asks for a pod that it may not have: {'; '.join(wrong)}")
    return wish


def merged(request: Json, ours: Json) -> Json:
    """`ours`, the manifest's pod, with what else `asked` (the author's template, spec and parameters) may add: labels,
    annotations, placement. LauncherError naming each field that is not the author's.
    """
    spec, mine = request.get("spec") or {}, ours["spec"]
    wrong = [
        f"spec.{key}"
        for key, value in spec.items()
        if key not in (*PLACEMENT, *WISHED, "containers") and _adds(value, mine.get(key))
    ]
    wrong += [
        f"spec.containers.{key}"
        for key, value in _container(spec).items()
        if key != "resources" and _adds(value, mine["containers"][0].get(key))
    ]
    wrong += [f"spec.containers ({c.get('name')})" for c in spec.get("containers") or [] if c.get("name") != CONTAINER]
    if wrong:
        raise LauncherError(
            f"the pod's template, full_pod_spec or parameters set {', '.join(sorted(wrong)[:10])}, which only the"
            " installation's operator sets (GDI_POD_CONFIG); leave them out"
        )
    return {
        **ours,
        "metadata": _metadata(request.get("metadata") or {}, ours["metadata"]),
        "spec": {**mine, **{key: spec[key] for key in PLACEMENT if spec.get(key)}},
    }


def _container(spec: Json) -> Json:
    return next((c for c in spec.get("containers") or [] if c.get("name") == CONTAINER), {})


def _adds(value: Any, ours: Any) -> bool:
    """Whether it says anything that the manifest does not say anyway."""
    return value not in (None, False, "", [], {}) and value != ours


def _metadata(request: Json, ours: Json) -> Json:
    def kept(kind: str) -> dict[str, str]:
        given = request.get(kind) or {}
        return {**{k: v for k, v in given.items() if k != TRY and not k.startswith(OWN)}, **ours[kind]}

    return {**ours, "labels": kept("labels"), "annotations": kept("annotations")}
