"""The run token: what a workload of a run may do at one node's gateway. The broker signs it (ES256), the gateway reads
it; it lives five minutes by default.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from gdi.contracts.ids import DatasetId, Digest, Label, NodeId, RunId, WorkflowName
from gdi.kit.jose import SigningKey

TYPE = "run+jwt"  # `typ` of its header
Scope = Literal["tasks", "workspace", "releases", "close"]
SNAKEMAKE_SCOPE = "tasks workspace"  # of a Snakemake pod
AirflowsScope = Literal["releases", "close"]
AIRFLOW_SCOPE = "releases close"  # of Airflow's own workload, which asks for one of them at a time
AIRFLOW = "airflow"  # its name, where a pod's would stand


class RunClaims(BaseModel):
    """The claims beside `iss` (the broker's public URL), `aud` (the gateway's), `iat`, `exp` and `jti`. A claim that
    this version does not know is no error.

    `sub` is the user; `datasets` are the node's; `scope` is a list with spaces. `wl` is the pod's name and `generation`
    its number among the node's pods in the run, 0 for Airflow: a gateway refuses a pod of a lower one.
    """

    sub: Annotated[str, Field(min_length=1, max_length=255)]
    run: RunId
    attempt: int = Field(ge=1, le=10_000)
    node: NodeId
    workflow: WorkflowName
    digest: Digest
    datasets: list[DatasetId] = Field(max_length=1000)
    scope: Label
    generation: int = Field(ge=0)
    wl: Label

    def sign(self, key: SigningKey, *, issuer: str, audience: str, lifetime: float) -> str:
        """The token. `lifetime` is in seconds."""
        return key.sign({**self.model_dump(), "iss": issuer, "aud": audience}, lifetime=lifetime, typ=TYPE)
