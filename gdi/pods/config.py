"""What a cluster's operator allows Snakemake pods, and what they get: a YAML file (GDI_POD_CONFIG), for all, by
workflow, by node, by run within limits.
"""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from gdi.kit.models import Frozen, load_model
from gdi.kit.settings import SettingsError

LEAST = {"cpu": "1m", "memory": "64Mi", "disk": "1Mi"}  # of what a run asks for: to a kubelet a limit of 0 is none
_QUANTITY = re.compile(r"^([0-9]+(?:\.[0-9]+)?)(m|k|M|G|T|Ki|Mi|Gi|Ti)?$")
_FACTOR: dict[str | None, Decimal | int] = {
    None: 1,
    "m": Decimal("0.001"),
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}


def amount(quantity: str) -> Decimal:
    """A Kubernetes quantity in its base unit (cores, bytes). ValueError for what is none."""
    found = _QUANTITY.fullmatch(quantity)
    if found is None:
        raise ValueError(f"{quantity[:40]!r} is not a quantity such as 500m, 2, 512Mi or 4Gi")
    return Decimal(found[1]) * _FACTOR[found[2]]


def _quantity(value: str) -> str:
    amount(value)
    return value


Quantity = Annotated[str, Field(max_length=40), AfterValidator(_quantity)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]
Label = Annotated[str, Field(max_length=317, pattern=r"^[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?$")]


class Toleration(Frozen):
    """As in a pod's spec; keys by the names of Kubernetes' API."""

    key: Label
    operator: Literal["Equal", "Exists"] = "Equal"
    value: Annotated[str, Field(max_length=63)] = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""

    def manifest(self) -> dict[str, Any]:
        return {k: v for k, v in self.model_dump().items() if v}


class Wish(Frozen):
    """What a pod gets; None is left to who stands before it. `cpu` is the request (no limit: an idle core is nobody's
    loss), `memory` request and limit.

    In a run's conf it is the value of `pod`, and every part of it must be within the operator's limits.
    """

    cpu: Quantity | None = None
    memory: Quantity | None = None
    disk: Quantity | None = None
    priority_class: Name | None = None
    node_selector: dict[Label, Annotated[str, Field(max_length=63)]] | None = Field(default=None, max_length=20)
    tolerations: tuple[Toleration, ...] | None = Field(default=None, max_length=20)

    def over(self, base: Wish) -> Wish:
        """This wish where it says something, `base` where it does not: an operator's over another of theirs."""
        return base.model_copy(
            update={k: v for k, v in self.model_dump(exclude_none=True).items() if k != "tolerations"}
            | self._tolerations()
        )

    def within(self, base: Wish) -> Wish:
        """A run's wish beside what the operator gives: it adds to the selector and the tolerations and takes none away,
        so that the pod stays in its pool.
        """
        selector = {**(self.node_selector or {}), **(base.node_selector or {})}
        given = base.tolerations or ()
        both = (*given, *(t for t in self.tolerations or () if t not in given))
        return self.over(base).model_copy(update={"node_selector": selector or None, "tolerations": both or None})

    def _tolerations(self) -> dict[str, Any]:
        return {} if self.tolerations is None else {"tolerations": self.tolerations}


class PodLimits(Frozen):
    """What a run may ask for. Classes, selectors and tolerations only from these lists; empty: none."""

    cpu: Quantity = "2"
    memory: Quantity = "4Gi"
    disk: Quantity = "20Gi"
    priority_classes: tuple[Name, ...] = ()
    node_selectors: dict[Label, tuple[str, ...]] = Field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()

    def exceeded(self, wish: Wish) -> list[str]:
        """What of a wish is not allowed, a sentence each."""
        wrong = []
        for name in ("cpu", "memory", "disk"):
            value, most = getattr(wish, name), getattr(self, name)
            if value is not None and amount(value) > amount(most):
                wrong.append(f"pod.{name}: {value} is more than the {most} that a run may ask for")
            if value is not None and amount(value) < amount(LEAST[name]):
                wrong.append(f"pod.{name}: {value} is less than the {LEAST[name]} that a pod needs at least")
        if wish.priority_class is not None and wish.priority_class not in self.priority_classes:
            wrong.append(
                f"pod.priority_class: {wish.priority_class} is none of:"
                f" {', '.join(self.priority_classes) or '(no class is open to runs)'}"
            )
        for key, value in (wish.node_selector or {}).items():
            if value not in self.node_selectors.get(key, ()):
                wrong.append(f"pod.node_selector: {key}={value} is not among those that a run may ask for")
        wrong += [
            f"pod.tolerations: {t.key} is not among those that a run may ask for"
            for t in wish.tolerations or ()
            if t not in self.tolerations
        ]
        return wrong


class ClusterConfig(Frozen):
    """Where pods run. `conn_id`: Airflow's Kubernetes connection (None: the cluster that Airflow runs in). URLs as a
    pod there sees them.
    """

    conn_id: Annotated[str, Field(max_length=200)] | None = None
    namespace: Name | None = None
    image: Annotated[str, Field(max_length=500, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$")] | None = None
    broker_url: Annotated[str, Field(max_length=300, pattern=r"^https?://[^\s?#@]+$")] | None = None
    service_account: Name | None = None
    image_pull_secrets: tuple[Name, ...] | None = None
    ca_config_map: Name | None = Field(
        default=None,
        description="a ConfigMap in the pods' namespace whose ca.crt the pods trust besides the public ones",
    )
    runtime_class: Name | None = None
    logs: bool | None = Field(
        default=None,
        description="whether Airflow's task log follows the pod's; where Snakemake runs inside a node it may show data",
    )


class PodConfig(ClusterConfig):
    """The whole file. `nodes`: where a node's pods run in its own cluster; `workflows`: what their pods get instead of
    `defaults`.
    """

    namespace: Name = "gdi-runs"
    image: Annotated[str, Field(max_length=500)] = Field(min_length=1)
    service_account: Name = "snakemake"
    image_pull_secrets: tuple[Name, ...] = ()
    image_pull_policy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    user: int = Field(default=10001, ge=1)
    defaults: Wish = Wish()
    limits: PodLimits = PodLimits()
    workflows: dict[str, Wish] = Field(default_factory=dict)
    nodes: dict[str, ClusterConfig] = Field(default_factory=dict)
    start_timeout: float = Field(
        default=300,
        ge=1,
        le=86_400,
        description="seconds for a pod to be scheduled, its image pulled and its container started",
    )
    keep_seconds: float = Field(default=86_400, ge=0, description="how long a pod that ended stays, with its log")
    mark_seconds: float = Field(
        default=1.0,
        ge=0,
        le=10,
        description="between marking a pod to cancel and ending it: the kubelet must write the mark",
    )

    def cluster(self, node: str) -> ClusterConfig:
        """Where that node's pods run: its own entry where it says something, this cluster otherwise."""
        own = self.nodes.get(node, ClusterConfig())
        found = {
            name: getattr(self, name) if getattr(own, name) is None else getattr(own, name)
            for name in ClusterConfig.model_fields
        }
        return ClusterConfig(
            **{**found, "logs": own.logs if own.logs is not None else self.logs is not False and node not in self.nodes}
        )

    def wish(self, workflow: str, request: Wish | None, author: Wish | None = None) -> Wish:
        """What a pod gets: `asked` by the run, over `author`, by its DAG (within the limits already). ValueError naming
        each thing that the run may not ask for.
        """
        if request is not None and (wrong := self.limits.exceeded(request)):
            raise ValueError("; ".join(wrong))
        base = self.workflows.get(workflow, Wish()).over(self.defaults.over(Wish(cpu="100m", memory="1Gi", disk="5Gi")))
        base = base if author is None else author.within(base)
        return base if request is None else request.within(base)


_read: dict[Path, tuple[tuple[int, int], PodConfig]] = {}


def read(path: Path) -> PodConfig:
    """The file, read again when it changes. SettingsError naming file, place and mistake."""
    try:
        found = path.stat()
        stamp = (found.st_mtime_ns, found.st_size)
        if path in _read and _read[path][0] == stamp:
            return _read[path][1]
    except OSError as error:
        raise SettingsError(f"GDI_POD_CONFIG: {path} cannot be read: {error.strerror}") from None
    config = load_model(path, PodConfig, error=SettingsError, name="GDI_POD_CONFIG")
    _read[path] = (stamp, config)
    return config
