"""The contract of every server that a test imitates, each in one place: our own servers' are read off their routers, a
published description is taken where there is one, and what is left is a model here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal
from unittest.mock import MagicMock

import jsonschema
import yaml
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata
from authlib.oidc.discovery import OpenIDProviderMetadata
from pydantic import BaseModel, ConfigDict, Field

from gdi.cli.images.layout import BlobDescriptor
from gdi.contracts.beacon import BeaconResponse
from gdi.contracts.gateway_api import AwaitingReview, Released
from gdi.contracts.htsget import HtsgetTicket
from gdi.contracts.results import ResultsView
from gdi.contracts.run_endings import Standing
from gdi.contracts.tes import STATES, from_json, to_json
from gdi.runner.host.app import create_app as process_host
from node_gateway.app import public_app
from tests.support.wire import Check, Route, Wire, model, routes_of, survives
from token_broker import api, committee_api, order_api

TES_PREFIX = "/ga4gh/tes/v1"
BYTES: dict[int, Check | None] = {200: None, 206: None}


def key_set(value: Any) -> None:
    """RFC 7517 §5: an array, perhaps empty, of keys that say their type."""
    assert isinstance(value["keys"], list) and all(isinstance(key["kty"], str) for key in value["keys"])


KEY_SETS = Wire("an issuer's keys", [Route("GET", "/{path:path}", {200: key_set})])
"""Wherever it is: RFC 7517 sets of public keys."""

# --- TES 1.1 (GA4GH), by py-tes's models ----------------------------------------------------------


def task(value: Any) -> None:
    """A task in any view: whatever py-tes's model does not keep is no part of TES, or has not TES's form."""
    assert value.get("state", "UNKNOWN") in STATES, value["state"]
    survives(value, to_json(from_json(value)), "task")


def task_page(value: Any) -> None:
    assert value.keys() <= {"tasks", "next_page_token"} and isinstance(value.get("next_page_token", ""), str)
    for one in value["tasks"]:
        task(one)


def created(value: Any) -> None:
    assert value.keys() == {"id"} and isinstance(value["id"], str)


def service_info(value: Any) -> None:
    """GA4GH service-info 1.0.0: what it requires."""
    assert {"id", "name", "type", "organization", "version"} <= value.keys(), value
    assert {"group", "artifact", "version"} <= value["type"].keys() and {"name", "url"} <= value["organization"].keys()


def nothing(value: Any) -> None:
    assert value == {}


TES_ROUTES = [
    Route("GET", f"{TES_PREFIX}/service-info", {200: service_info}),
    Route("POST", f"{TES_PREFIX}/tasks", {200: created}, task),
    Route("GET", f"{TES_PREFIX}/tasks", {200: task_page}),
    Route("GET", TES_PREFIX + "/tasks/{id}", {200: task}),
    Route("POST", TES_PREFIX + "/tasks/{id}:cancel", {200: nothing}),
]
TES = Wire("TES", TES_ROUTES)

# --- ours, off their routers ----------------------------------------------------------------------

KEYS = Route("GET", "/.well-known/jwks.json", {200: key_set})
BROKER = Wire(
    "the broker",
    [KEYS, *routes_of(api.router.routes, order_api.router.routes, committee_api.router.routes)],
    problems=True,
)
_RELEASE = ("POST", "/releases/{run}")
GATEWAY = Wire(
    "the gateway",
    [
        *TES_ROUTES,
        *routes_of(public_app(MagicMock()).routes, more={_RELEASE: {200: model(Released), 202: model(AwaitingReview)}}),
    ],
    problems=True,
)
# A node in one process: what a pod of it asks of both.
NODE = Wire("the node", [*BROKER.routes, *GATEWAY.routes], problems=True)
PROCESS_HOST = Wire("the process host", routes_of(process_host(MagicMock()).routes), problems=True)


# --- SDA's download service, v1 and v2 (neicnordic/sensitive-data-archive) ------------------------


class SdaFile(BaseModel):
    """An entry of v1's `/metadata/datasets/{dataset}/files`; sizes in bytes."""

    model_config = ConfigDict(extra="forbid", strict=True)
    fileId: str
    filePath: str
    decryptedFileSize: int
    decryptedFileChecksum: str = ""
    decryptedFileChecksumType: str = ""
    datasetId: str = ""
    displayFileName: str = ""
    fileName: str = ""
    fileSize: int = 0
    fileStatus: str = ""
    createdAt: str = ""
    lastModified: str = ""


class SdaChecksum(BaseModel):
    type: str
    checksum: str


class SdaV2File(BaseModel):
    """An entry of v2's `/datasets/{dataset}/files`; sizes in bytes."""

    model_config = ConfigDict(extra="forbid", strict=True)
    fileId: str
    filePath: str
    size: int
    decryptedSize: int
    checksums: list[SdaChecksum]


class SdaV2Datasets(BaseModel):
    model_config = ConfigDict(extra="forbid")
    datasets: list[str]
    nextPageToken: str | None


class SdaV2Files(BaseModel):
    model_config = ConfigDict(extra="forbid")
    files: list[SdaV2File]
    nextPageToken: str | None


_DATA = ["/files/{id}", "/s3/{dataset}/{path:path}", "/s3-encrypted/{dataset}/{path:path}"]
SDA = Wire(
    "SDA",
    [
        Route("GET", "/metadata/datasets", {200: model(list[str])}),
        Route("GET", "/metadata/datasets/{dataset:path}/files", {200: model(list[SdaFile])}),
        *(Route(method, path, BYTES) for method in ("GET", "HEAD") for path in _DATA),
    ],
)
SDA_V2 = Wire(
    "SDA v2",
    [
        Route("GET", "/v2/datasets", {200: model(SdaV2Datasets)}),
        Route("GET", "/v2/datasets/{dataset:path}/files", {200: model(SdaV2Files)}),
        *(Route(method, "/v2/files/{id}", BYTES) for method in ("GET", "HEAD")),
        Route("GET", "/v2/files/{id}/content", BYTES),
    ],
)

# --- htsget 1.3, Beacon v2 ------------------------------------------------------------------------


class _Htsget(BaseModel):
    datatype: Literal["reads", "variants"]
    formats: list[str]


def htsget_info(value: Any) -> None:
    """service-info with htsget's part of it."""
    model(_Htsget)(value["htsget"])
    assert value["type"]["artifact"] == "htsget"


DATA_POINT = Wire("a FAIR Data Point", [Route("GET", "/{path:path}", {200: None})])
"""RDF documents at any path: no model tells their bytes, and `make nightly-beacon` reads a real one's."""

OTLP = Wire("a receiver of spans", [Route("POST", "/v1/traces", {200: None})])
"""OTLP over HTTP: opentelemetry's own messages are read by its own classes."""

HTSGET = Wire(
    "htsget",
    [
        Route("GET", "/htsget/{kind}/service-info", {200: htsget_info}),
        Route("GET", "/htsget/data/{id:path}", BYTES),
        *(Route(m, "/htsget/{kind}/{id:path}", {200: model(HtsgetTicket)}) for m in ("GET", "POST")),
    ],
)


# --- DRS 1.4 (ga4gh/data-repository-service-schemas, openapi/components/schemas) -----------------


class _DrsChecksum(BaseModel):
    model_config = ConfigDict(extra="forbid")
    checksum: str
    type: str


class _DrsUrl(BaseModel):
    model_config = ConfigDict(extra="forbid")
    url: str
    headers: list[str] = []


class _DrsAccess(BaseModel):
    model_config = ConfigDict(extra="forbid")
    type: Literal["s3", "gs", "ftp", "gsiftp", "globus", "htsget", "https", "file", "http"]  # http: SDA without TLS
    access_url: _DrsUrl | None = None
    access_id: str | None = None
    region: str | None = None


class _DrsObject(BaseModel):
    model_config = ConfigDict(extra="forbid")
    id: str
    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9._-]+$")
    self_uri: str = Field(pattern="^drs://")
    size: int
    created_time: str
    updated_time: str | None = None
    version: str | None = None
    mime_type: str | None = None
    checksums: list[_DrsChecksum] = Field(min_length=1)
    access_methods: list[_DrsAccess] | None = Field(default=None, min_length=1)
    contents: list[dict[str, Any]] | None = None
    description: str | None = None
    aliases: list[str] | None = None


DRS = Wire(
    "DRS",
    [
        Route("GET", "/ga4gh/drs/v1/objects/{id:path}", {200: model(_DrsObject), 202: None}),
        Route("GET", "/objects/{path:path}", {200: model(_DrsObject)}),  # of SDA's v2
        Route("GET", "/elsewhere", BYTES),
    ],
)


# --- a registry of images: OCI distribution-spec 1.1 ----------------------------------------------


def image_manifest(value: Any) -> None:
    """An index or a manifest (OCI image-spec 1.1): schema 2, and descriptors with type, digest and size."""
    assert value["schemaVersion"] == 2
    for one in value.get("manifests") or [value["config"], *value["layers"]]:
        BlobDescriptor.model_validate(one)


class _RegistryToken(BaseModel):
    token: str


_BLOBS, _MANIFEST = "/v2/{name:path}/blobs", "/v2/{name:path}/manifests/{reference}"
REGISTRY = Wire(
    "a registry",
    [
        Route("GET", "/token", {200: model(_RegistryToken)}),
        Route("POST", _BLOBS + "/uploads/", {202: None}),
        Route("PUT", _BLOBS + "/uploads/{id}", {201: None}),
        *(Route(method, _BLOBS + "/{digest}", BYTES) for method in ("GET", "HEAD")),
        Route("GET", _MANIFEST, {200: image_manifest}),
        Route("PUT", _MANIFEST, {201: None}, image_manifest),
    ],
)


def beacon_answer(value: Any) -> None:
    """A Beacon v2 answer, as far as we read one."""
    BeaconResponse.model_validate(value)
    assert "meta" in value and value.keys() & {"response", "responseSummary"}


BEACON = Wire("a Beacon", [Route("POST", "/{node:path}g_variants", {200: beacon_answer})])


# The gateway's listener for the node's own TES: data of SDA's forms, and htsget in front of it.
NODE_INSIDE = Wire(
    "the gateway, inside",
    [
        Route("GET", "/htsget/blocks/{word}", BYTES),
        *(Route(m, "/{kind}/{name}/{path:path}", BYTES) for m in ("GET", "HEAD")),
    ],
)


# --- OAuth 2 and OpenID Connect -------------------------------------------------------------------


class _Provider(BaseModel):
    issuer: str = Field(pattern="^https?://")
    token_endpoint: str = Field(pattern="^https?://")


LATER = {
    "authorization_response_iss_parameter_supported",  # RFC 9207
    "device_authorization_endpoint",  # RFC 8628
    "userinfo_endpoint",
}


def provider_document(value: Any) -> None:
    """RFC 8414 and OpenID Connect Discovery 1.0: names that are registered, as Authlib has them."""
    _Provider.model_validate(value)
    known = {*OpenIDProviderMetadata.REGISTRY_KEYS, *AuthorizationServerMetadata.REGISTRY_KEYS, *LATER}
    assert value.keys() <= known, value.keys() - known


class TokenAnswer(BaseModel):
    """RFC 6749 §5.1, RFC 8693 §2.2.1."""

    model_config = ConfigDict(extra="forbid")
    access_token: str = Field(min_length=1)
    token_type: str
    expires_in: float | None = Field(default=None, gt=0)
    refresh_token: str | None = None
    refresh_expires_in: float | None = Field(default=None, ge=0)  # as Keycloak says it
    id_token: str | None = None
    scope: str | None = None
    issued_token_type: str | None = None


class Introspection(BaseModel):
    """RFC 7662 §2.2; a token that is not active has no other field."""

    model_config = ConfigDict(extra="forbid")
    active: bool
    sub: str | None = None
    aud: str | list[str] | None = None
    iss: str | None = None
    exp: int | None = None
    iat: int | None = None
    nbf: int | None = None
    jti: str | None = None
    scope: str | None = None
    client_id: str | None = None
    username: str | None = None
    token_type: str | None = None


_DISCOVERY = ".well-known/openid-configuration"
OAUTH = Wire(
    "the OAuth provider",
    [
        Route("GET", "/{prefix:path}" + _DISCOVERY, {200: provider_document}),
        Route("POST", "/{prefix:path}introspect", {200: model(Introspection)}),
        Route("POST", "/{prefix:path}token", {200: model(TokenAnswer)}),
        Route("GET", "/{prefix:path}jwk", {200: key_set}),
        Route("GET", "/{prefix:path}jwks", {200: key_set}),
    ],
)


# --- Airflow: its own published OpenAPI, and the plugin's pages -----------------------------------


@cache
def _openapi(module: str, file: str) -> dict[str, Any]:
    import airflow

    found = Path(str(airflow.__file__)).parent / "api_fastapi" / module / "openapi" / file
    loaded: dict[str, Any] = yaml.load(found.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return loaded


def airflow_schema(name: str, module: str = "core_api", file: str = "v2-rest-api-generated.yaml") -> Check:
    """A schema of Airflow's OpenAPI, which the installed package carries."""

    def check(value: Any) -> None:
        schema = {**_openapi(module, file), "$ref": f"#/components/schemas/{name}"}
        try:
            jsonschema.Draft202012Validator(schema).validate(value)
        except jsonschema.ValidationError as error:
            raise ValueError(f"{error.json_path}: {error.message}") from None

    return check


_LOGIN = airflow_schema("LoginResponse", "auth/managers/simple", "v2-simple-auth-manager-generated.yaml")
_RUN = "/api/v2/dags/{dag}/dagRuns/{run}"
AIRFLOW = Wire(
    "Airflow",
    [
        Route("POST", "/auth/token", {201: _LOGIN}),
        Route("POST", "/api/v2/dags/{dag}/dagRuns/list", {200: airflow_schema("DAGRunCollectionResponse")}),
        Route(
            "POST",
            "/api/v2/dags/{dag}/dagRuns",
            {200: airflow_schema("DAGRunResponse")},
            airflow_schema("TriggerDAGRunPostBody"),
        ),
        Route("GET", _RUN, {200: airflow_schema("DAGRunResponse")}),
        Route("PATCH", _RUN, {200: airflow_schema("DAGRunResponse")}, airflow_schema("DAGRunPatchBody")),
        Route("GET", "/gdi/data/standing/{dag}/{run:path}", {200: model(Standing)}),
        Route("GET", "/gdi/data/results/{dag}/{run:path}", {200: model(ResultsView)}),
        Route("GET", "/gdi/file/{dag}/{run:path}", BYTES),
        Route("GET", "/gdi/crate/{dag}/{run:path}", BYTES),
    ],
)


# --- Kubernetes: the models of its own client -----------------------------------------------------


def kubernetes(kind: str) -> Check:
    """An object as `kubernetes.client` models it: with every field that it requires, and none that it does not know."""

    def check(value: Any) -> None:
        from kubernetes.client import ApiClient

        client = ApiClient()
        read = client.deserialize(SimpleNamespace(data=json.dumps(value)), kind)
        survives(value, client.sanitize_for_serialization(read), kind)

    return check


def listed(kind: str) -> Check:
    def check(value: Mapping[str, Any]) -> None:
        assert isinstance(value["metadata"], dict)
        for item in value["items"]:
            kubernetes(kind)(item)

    return check


_PODS, _MAPS = "/api/v1/namespaces/{namespace}/pods", "/api/v1/namespaces/{namespace}/configmaps"
_POD = kubernetes("V1Pod")
KUBERNETES = Wire(
    "Kubernetes",
    [
        Route("GET", "/openid/v1/jwks", {200: key_set}),
        Route("POST", _PODS, {201: _POD}, _POD),
        Route("GET", _PODS, {200: listed("V1Pod")}),
        *(Route(method, _PODS + "/{name}", {200: _POD}) for method in ("GET", "PATCH", "DELETE")),
        Route("GET", _PODS + "/{name}/log", BYTES),
        Route("POST", _MAPS, {201: kubernetes("V1ConfigMap")}, kubernetes("V1ConfigMap")),
        Route("GET", _MAPS + "/{name}", {200: kubernetes("V1ConfigMap")}),
        Route("DELETE", _MAPS + "/{name}", {200: kubernetes("V1Status")}),
    ],
)
