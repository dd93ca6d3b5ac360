"""A node's judge in one process, with keys of its own making: the broker's, a visa issuer's, reviewers', and an
attacker's.
"""

from __future__ import annotations

import copy
import json
import secrets
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import yaml

from gdi.contracts import approval
from gdi.contracts import orders as o
from gdi.contracts.packed_workflow import packed, unpacked
from gdi.kit.canonical import sha256_hex
from gdi.kit.jose import RemoteKeys, SigningKey
from gdi.kit.used_ids import UsedIds
from gdi.visas.visas import Visas
from node_gateway.agent.decision import RefusedOrder
from node_gateway.agent.duties import wanted_releases
from node_gateway.agent.judge import Judge
from node_gateway.audit import Audit
from node_gateway.db import store as db
from node_gateway.db.store import GatewayDatabase
from node_gateway.node_orders import NodeOrders
from node_gateway.policy import PolicyFile
from node_gateway.stops import NodeStops
from tests.support.wire import answers_of
from tests.support.wires import KEY_SETS

_MADE = Path(tempfile.mkdtemp(prefix="gdi-gateway-db-"))
BROKER, NODE, USER = "https://broker.test", "node-a", "alice@lifescience-ri.eu"
ISS, JKU = "https://rems.test/", "https://rems.test/jwk"
DATASET, RUN = "EGAD00000000001", "r-" + "0" * 20
KEYS = {name: SigningKey.generate() for name in ("broker", "rems", "reviewer", "second", "attacker")}

SNAKEFILE = b'rule count:\n    output: "counts.json"\n    container: "gdi-task:1"\n    shell: "true"\n'


def workflow_yaml(**changes: Any) -> dict[str, Any]:
    document: dict[str, Any] = {
        "name": "counts",
        "title": "Counts",
        "version": "1.0.0",
        "parameters": {"regions": {"type": "integer", "title": "Regions", "minimum": 1, "maximum": 8, "default": 2}},
        "releases": [{"name": "counts", "title": "Counts", "path": "counts.json", "kind": "allele-counts"}],
    }
    return {**document, **changes}


def pack_of(folder: Path, document: dict[str, Any] | None = None, snakefile: bytes = SNAKEFILE) -> bytes:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Snakefile").write_bytes(snakefile)
    (folder / "workflow.yaml").write_text(yaml.safe_dump(document or workflow_yaml(), sort_keys=False))
    return packed(folder)


def visa(**changes: Any) -> str:
    """Alice's visa for the dataset, with changes: of `claims`, of the object (`visa`), `key`, `headers`, `lifetime`."""
    body: dict[str, Any] = {
        "type": "ControlledAccessGrants",
        "value": DATASET,
        "source": "https://dac.test/",
        "by": "dac",
        "asserted": int(time.time()) - 100,
        **changes.get("visa", {}),
    }
    claims = {"iss": ISS, "sub": USER, "ga4gh_visa_v1": body, **changes.get("claims", {})}
    headers = {"jku": JKU, **changes.get("headers", {})}
    key: SigningKey = changes.get("key", KEYS["rems"])
    return key.sign(claims, lifetime=changes.get("lifetime", 3600), headers=headers)


def affiliation(value: str) -> str:
    return visa(visa={"type": "AffiliationAndRole", "value": value})


def link(sub: str) -> str:
    """A visa by which Alice is that person too."""
    value = f"{quote(sub, safe='')},{quote(ISS, safe='')}"
    return visa(visa={"type": "LinkedIdentities", "value": value, "by": "system"})


@dataclass
class Attempt:
    """An order as a coordinator may send it. `order` are changes of its claims, `came` of what it came as (run, kind,
    attempt), `policy` of the node's policy, `files` what the broker gives for the digest.
    """

    order: dict[str, Any] = field(default_factory=dict)
    came: dict[str, Any] = field(default_factory=dict)
    policy: dict[str, Any] = field(default_factory=dict)
    visas: list[str] | None = None
    visa_lifetime: float = 3600  # seconds, of the usual visa
    files: bytes | None = None
    pack: bytes | None = None
    key: SigningKey = field(default_factory=lambda: KEYS["broker"])
    typ: str = o.TYPE
    aud: str = NODE
    lifetime: float = 600
    described: bool = True
    stopped: str = ""  # a person whom the node's access committee stopped
    before: int = 0  # an attempt that the node took before
    analysed: dict[str, Any] = field(default_factory=dict)  # changes of the attempt that was analysed before, if any
    sent: int = 1  # how often it comes


class OwnFiles:
    """The broker as the judge asks it for files."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    async def workflow(self, digest: str) -> bytes:
        return self.body


async def outcome(folder: Path, attempt: Attempt) -> str:
    """`admitted`, or the reason of the refusal."""
    default = pack_of(folder / "workflow")
    pack = default if attempt.pack is None else attempt.pack
    digest = "sha256:" + sha256_hex(pack)
    policy = {
        "placement": "node",
        "workflows": [{"name": "counts", "digest": digest}],
        "visa_issuers": [{"iss": ISS, "jku": JKU}],
        **copy.deepcopy(attempt.policy),
    }
    (folder / "policy.yaml").write_text(yaml.safe_dump(policy))
    if attempt.described:
        (folder / "datasets").mkdir(exist_ok=True)
        described = {
            "dataset": "EGAD*",
            "assembly": "GRCh37",
            "membership": "contract",
            "absent": "unknown",
            "identifiers": "one-per-person",
            "disjoint": True,
            "files": [{"path": "cohort.vcf.gz.c4gh", "format": "vcf"}],
        }
        (folder / "datasets" / "all.yaml").write_text(yaml.safe_dump(described))
    claims: dict[str, Any] = {
        "iss": BROKER,
        "aud": attempt.aud,
        "jti": secrets.token_hex(16),
        "sub": USER,
        "run": RUN,
        "attempt": 1,
        "node": NODE,
        "kind": "analyse",
        "workflow": "counts",
        "digest": digest,
        "version": "1.0.0",
        "parameters": {"datasets": [DATASET]},
        "datasets": [DATASET],
        "visas": [visa(lifetime=attempt.visa_lifetime)] if attempt.visas is None else attempt.visas,
        "deadline": time.time() + attempt.lifetime,
        **attempt.order,
    }
    token = attempt.key.sign(claims, lifetime=attempt.lifetime, typ=attempt.typ)
    if attempt.lifetime < 0:
        token = attempt.key.sign(
            {**claims, "iat": 1, "exp": int(time.time() + attempt.lifetime)}, lifetime=1, typ=o.TYPE
        )
    sets = {f"{BROKER}/jwks": ["broker"], JKU: ["rems"], "https://attacker.test/jwk": ["attacker"]}

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=json.dumps({"keys": [KEYS[k].jwk() for k in sets[str(request.url)]]}))

    database = await _database(folder)
    stops = NodeStops(database, Audit(database))
    if attempt.stopped:
        await stops.make("member", person=attempt.stopped, reason="why not")
    async with httpx.AsyncClient(transport=answers_of(KEY_SETS, answer)) as http:
        policies = PolicyFile(folder / "policy.yaml")
        judge = Judge(
            node=NODE,
            folder=folder / "files",
            issuer=BROKER,
            policy=policies,
            keys=RemoteKeys(f"{BROKER}/jwks", http),
            visas=Visas(http, lambda: policies.current().visa_issuers),
            orders=NodeOrders(database),
            stops=stops,
            used=UsedIds(database, db.used_ids),
            broker=OwnFiles(pack if attempt.files is None else attempt.files),  # type: ignore[arg-type]
        )
        (folder / "files").mkdir(exist_ok=True)
        try:
            return await _judged(judge, token, attempt)
        except RefusedOrder as refused:
            return refused.reason
        finally:
            await database.close()


async def _database(folder: Path) -> GatewayDatabase:
    """An empty one; its schema is made once."""
    made = _MADE / "gateway.db"
    if not made.exists():
        template = GatewayDatabase.open(f"sqlite+aiosqlite:///{made}")
        await template.create()
        await template.make_durable()
        await template.close()
    shutil.copyfile(made, folder / "gateway.db")
    return GatewayDatabase.open(f"sqlite+aiosqlite:///{folder / 'gateway.db'}")


async def _judged(judge: Judge, token: str, attempt: Attempt) -> str:
    """The steps of `NodeAgent`, in its order."""
    came = {"run": RUN, "kind": "analyse", "attempt": 1, **attempt.came}
    claims = await judge.claims(token, came["run"], came["kind"], came["attempt"])
    if attempt.before:
        await judge.orders.add(claims.model_copy(update={"attempt": attempt.before, "jti": "f" * 32}), 1)
    if attempt.analysed:
        values = {"attempt": 1, "jti": "e" * 32, **attempt.analysed}
        earlier = claims.model_copy(update={"parameters": {}, "datasets": [DATASET], **values})
        await judge.orders.add(earlier, 1)
        order = await judge.orders.get(RUN, "analyse", 1)
        assert order is not None
        parameters = {"regions": 2, **earlier.parameters}
        await judge.orders.change(order, state="succeeded", parameters=parameters)
    for _ in range(attempt.sent):
        if not await judge.orders.add(claims, 1):
            return "order-replayed"
    files = await judge.files(claims.digest)
    await judge.not_older(claims)
    admitted, _ = await judge.admitted(claims, files)
    await judge.one_analysis(claims, admitted)
    if claims.kind == "release":
        wanted_releases(claims.releases, files.workflow, approved=admitted.approved)
        await judge.analysed(claims)
    return "admitted"


def signed(pack: bytes, key: str = "reviewer", key_id: str = "reviewer", *, lifetime: float = 3600) -> str:
    """A reviewer's approval of these files."""
    claims = approval.claims_for(unpacked(pack).workflow, "sha256:" + sha256_hex(pack), "Ann")
    return approval.sign(claims, KEYS[key], key_id, lifetime=lifetime)


def approver(key: str = "reviewer", **changes: Any) -> dict[str, Any]:
    return {"id": key, "key": KEYS[key].jwk(), "may": ["counts"], **changes}
