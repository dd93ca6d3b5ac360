"""Who is enrolled: nodes, portals, visa issuers, workload issuers, auditors. A YAML file of the operator's, read again
when it changes.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import quote

import jwt
from pydantic import Field, field_validator, model_validator

from gdi.contracts.committees import CommitteeName
from gdi.contracts.ids import DatasetClaim, DatasetId, HttpUrl, NodeId
from gdi.contracts.runs import Placement
from gdi.kit.models import Frozen, load_model
from gdi.kit.reloading_file import ReloadingFile
from gdi.kit.settings import SettingsError
from gdi.kit.web_url import secure_url
from gdi.visas.issuer import VisaIssuer

MAX_BYTES = 8 * 1024 * 1024


AirflowScope = Literal["admit", "releases", "close", "schedules"]
AIRFLOW_SCOPES: tuple[AirflowScope, ...] = get_args(AirflowScope)

APPLY = "Apply for access to this dataset in the REMS of its data access committee."
# a link with a query, unlike other URLs here: people follow it, programs do not
ApplyUrl = Annotated[str, Field(pattern=r"^https?://[^\s#@]+$", max_length=500)]


class Node(Frozen):
    """A node: its gateway (whose URL is the audience of run tokens), its public key and the datasets it may claim
    (exact, or a prefix ending in `*`). `placement`: whether the node's own agent starts Snakemake (`node`), or the
    coordinator; the node's policy says the same. `other_keys`: of before or after a change of its key
    (docs/operate.md). `titles` of datasets are for people who choose one, and `apply_url` for who has no access:
    `{dataset}` in it stands for the dataset's id, as in REMS's own links (`https://rems.example.org/apply-
    for?resource={dataset}`). `beacon_url`: of its public Beacon v2 (before `/g_variants`).
    """

    id: NodeId
    gateway_url: str
    public_key: dict[str, Any]
    other_keys: list[dict[str, Any]] = Field(default_factory=list, max_length=3)
    datasets: list[DatasetClaim] = Field(min_length=1)
    sda_audience: str
    tes_audience: str
    how_to_apply: Annotated[str, Field(max_length=500)] = ""
    placement: Placement = "node"
    apply_url: ApplyUrl | None = None
    beacon_url: HttpUrl | None = None
    titles: dict[DatasetId, Annotated[str, Field(max_length=200)]] = Field(default_factory=dict)

    @property
    def application(self) -> str:
        """How to apply, in words."""
        return self.how_to_apply or APPLY

    def apply_for(self, dataset: str) -> str | None:
        """Where to apply for this dataset."""
        return None if self.apply_url is None else self.apply_url.replace("{dataset}", quote(dataset, safe=""))

    @field_validator("gateway_url")
    @classmethod
    def _url(cls, value: str) -> str:
        return secure_url(value)

    @field_validator("other_keys")
    @classmethod
    def _keys(cls, value: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [cls._key(one) for one in value]

    @property
    def keys(self) -> list[dict[str, Any]]:
        """All that count now."""
        return [dict(self.public_key), *(dict(one) for one in self.other_keys)]

    @field_validator("public_key")
    @classmethod
    def _key(cls, value: dict[str, Any]) -> dict[str, Any]:
        if "d" in value:
            raise ValueError("holds a private key: give the public part only")
        try:
            jwt.PyJWK(value, algorithm=value.get("alg", "ES256"))
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise ValueError("is not a public JWK") from error
        return value

    @property
    def audience(self) -> str:
        return self.gateway_url

    def claims(self, dataset: str) -> bool:
        return _claimed(self.datasets, dataset)


class Portal(Frozen):
    """An OIDC client whose users' tokens may make grants and tickets. `airflow_users`: Airflow accounts that may start
    runs with any user's ticket.
    """

    client_id: str
    airflow_users: list[str] = Field(default_factory=list)


class Committee(Frozen):
    """An access committee: who its members are (LS AAI subs), and the datasets whose uses they may see and stop."""

    name: CommitteeName
    title: Annotated[str, Field(max_length=200)] = ""
    members: list[Annotated[str, Field(min_length=1, max_length=255)]] = Field(min_length=1, max_length=1000)
    datasets: list[DatasetClaim] = Field(min_length=1, max_length=1000)

    def covers(self, dataset: str) -> bool:
        return _claimed(self.datasets, dataset)


class DataCatalogue(Frozen):
    """A catalogue of datasets: the URL of a FAIR Data Point, or of a DCAT-AP document in Turtle or JSON-LD. `nodes`:
    whose datasets it may describe (none named: any node's).
    """

    url: Annotated[str, Field(max_length=500)]
    nodes: tuple[NodeId, ...] = Field(default=(), max_length=1000)

    @field_validator("url")
    @classmethod
    def _secure(cls, value: str) -> str:
        return secure_url(value)

    def describes(self, node: Node) -> bool:
        return not self.nodes or node.id in self.nodes


class WorkloadIssuer(Frozen):
    """A cluster (or process launcher) whose signature names workloads. `airflow`, `snakemake`: the subjects that play
    these parts.

    `airflow_scopes`: what a subject of `airflow` may do, where that is less than all.

    `nodes`: whose pods it may speak for (empty: any); give it for a node's own cluster, which could otherwise name
    another node's pod. `ca_file`, `token_file`: for a `jwks_url` that is an API server's: its authority, and the
    broker's own token for it.
    """

    issuer: str
    jwks_url: str | None = None
    jwks_file: Path | None = None
    audience: str = "token-broker"
    airflow: list[str] = Field(default_factory=list)
    snakemake: list[str] = Field(default_factory=list)
    airflow_scopes: dict[str, list[AirflowScope]] = Field(default_factory=dict)
    nodes: list[NodeId] = Field(default_factory=list)
    ca_file: Path | None = None
    token_file: Path | None = None

    @model_validator(mode="after")
    def _one_source(self) -> WorkloadIssuer:
        if self.nodes and self.airflow:
            raise ValueError("an issuer that speaks for some nodes only cannot vouch for Airflow")
        if (self.jwks_url is None) == (self.jwks_file is None):
            raise ValueError("give one of jwks_url and jwks_file")
        if unknown := sorted(set(self.airflow_scopes) - set(self.airflow)):
            raise ValueError(f"airflow_scopes names a subject that is not Airflow: {unknown[0]}")
        if set(self.airflow) & set(self.snakemake):
            raise ValueError("a subject cannot be Airflow and Snakemake at once")
        return self


class Enrolment(Frozen):
    """The whole file; consistent: no two nodes may claim one dataset, no id or URL appears twice.

    `believe_airflow_users`: why Airflow's word for who started a run is believed. With such a reason a user of Airflow
    starts with a grant of their own; without one a start needs a ticket.
    """

    nodes: list[Node] = Field(default_factory=list)
    portals: list[Portal] = Field(default_factory=list)
    visa_issuers: list[VisaIssuer] = Field(default_factory=list)
    workload_issuers: list[WorkloadIssuer] = Field(default_factory=list)
    believe_airflow_users: Annotated[str, Field(max_length=500)] = ""
    auditors: list[str] = Field(default_factory=list)
    committees: list[Committee] = Field(default_factory=list, max_length=1000)
    catalogues: list[DataCatalogue] = Field(default_factory=list, max_length=50)

    @model_validator(mode="after")
    def _consistent(self) -> Enrolment:
        for what, values in (
            ("node id", [n.id for n in self.nodes]),
            ("gateway_url", [n.gateway_url for n in self.nodes]),
            ("workload issuer", [w.issuer for w in self.workload_issuers]),
            ("committee", [c.name for c in self.committees]),
            ("catalogue", [c.url for c in self.catalogues]),
        ):
            twice = sorted({v for v in values if values.count(v) > 1})
            if twice:
                raise ValueError(f"{what} appears twice: {', '.join(twice)}")
        if {w.issuer for w in self.workload_issuers} & {n.id for n in self.nodes}:
            raise ValueError("a workload issuer is named like a node")
        if strange := sorted({n for c in self.catalogues for n in c.nodes} - {n.id for n in self.nodes}):
            raise ValueError(f"a catalogue names the node {strange[0]}, which is not enrolled")
        claims = [(c, n.id) for n in self.nodes for c in n.datasets]
        for i, (a, node) in enumerate(claims):
            for b, other in claims[i + 1 :]:
                if node != other and _overlap(a, b):
                    raise ValueError(f"nodes {node} and {other} both claim datasets by {a!r} and {b!r}")
        return self

    def node(self, node_id: str) -> Node | None:
        return next((n for n in self.nodes if n.id == node_id), None)

    def node_of(self, dataset: str) -> Node | None:
        nodes, sizes = self._claims
        return nodes.get(dataset) or next((n for size in sizes if (n := nodes.get(dataset[:size] + "*"))), None)

    @cached_property
    def _claims(self) -> tuple[dict[str, Node], list[int]]:
        """By claim its node, and how long prefixes are: a list of datasets looks up each of thousands."""
        nodes = {claim: n for n in self.nodes for claim in n.datasets}
        return nodes, sorted({len(claim) - 1 for claim in nodes if claim.endswith("*")})

    def committee(self, name: str) -> Committee | None:
        return next((c for c in self.committees if c.name == name), None)

    def committees_of(self, user: str) -> list[Committee]:
        return [c for c in self.committees if user in c.members]

    @property
    def portal_clients(self) -> set[str]:
        return {p.client_id for p in self.portals}

    @property
    def portal_airflow_users(self) -> set[str]:
        return {u for p in self.portals for u in p.airflow_users}


def _claimed(claims: list[str], dataset: str) -> bool:
    return any(dataset.startswith(c[:-1]) if c.endswith("*") else dataset == c for c in claims)


def _overlap(a: str, b: str) -> bool:
    if a.endswith("*") and b.endswith("*"):
        return a[:-1].startswith(b[:-1]) or b[:-1].startswith(a[:-1])
    if a.endswith("*"):
        return b.startswith(a[:-1])
    return a.startswith(b[:-1]) if b.endswith("*") else a == b


def parse(path: Path) -> Enrolment:
    """The enrolment in a file. SettingsError names file, place and mistake."""
    return load_model(path, Enrolment, error=SettingsError, most=MAX_BYTES)


class EnrolmentFile(ReloadingFile[Enrolment]):
    """The enrolment, read again when its file changes. A bad change is logged and the last good state stays in
    force.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, parse, SettingsError, "enrolment")

    @property
    def current(self) -> Enrolment:
        return self.look()
