"""A real Keycloak from Maven Central, with strict refresh rotation, as the identity provider of a world of brokers.

Keycloak reads no REMS, so the visas stand in userinfo as a fixed claim: real visas, signed by the REMS stand-in, put
there by `publish`.
"""

from __future__ import annotations

import functools
import hashlib
import html
import json
import os
import re
import secrets
import shutil
import subprocess
import tempfile
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urljoin, urlsplit

import httpx
import pytest

from gdi.broker_client.client import BrokerClient
from gdi.local_federation.aai.client import SCOPE, TokenAnswer, pkce
from gdi.local_federation.openbao import OpenBao
from tests.support.broker_kit import DATASETS, PORTS, REDIRECT, Process, World
from tests.support.debian import CACHE

VERSION = "26.3.5"
SHA256 = "95756bdfd7540fafaf28874a8eb8d0d4c55977344a3b7821e9bd3a22bfb2b6a6"
# The exchange of a foreign client's token for a refresh token with offline access is in Keycloak's first version of the
# exchange only; that one client may exchange for another's audience is said there by the first version of its
# fine-grained permissions.
FEATURES = "token-exchange,admin-fine-grained-authz:v1"
DEVICE = {"oauth2.device.authorization.grant.enabled": "true", "oauth2.device.polling.interval": "1"}
EVENTS = ("CODE_TO_TOKEN", "TOKEN_EXCHANGE", "REFRESH_TOKEN", "REVOKE_GRANT")


def distribution() -> Path:
    """The checked archive, downloaded once. Skips, saying what is missing, where there is no Java 17 or no Maven."""
    if shutil.which("java") is None:
        pytest.skip(
            "Java is missing (Keycloak needs 17 or newer). Install it: sudo apt-get install openjdk-17-jre-headless"
        )
    version = subprocess.run(["java", "-version"], capture_output=True, text=True, timeout=60).stderr
    found = re.search(r'version "(\d+)', version)
    if found is None or int(found[1]) < 17:
        pytest.skip(
            f"Keycloak needs Java 17 or newer, found: {version.splitlines()[0] if version else 'none'}. Install"
            " openjdk-17-jre-headless."
        )
    archive = CACHE / f"keycloak-quarkus-dist-{VERSION}.zip"
    if not archive.exists():
        if shutil.which("mvn") is None:
            pytest.skip("Maven is missing (it downloads Keycloak). Install it: sudo apt-get install maven")
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            artifact = f"-Dartifact=org.keycloak:keycloak-quarkus-dist:{VERSION}:zip"
            command = [
                "mvn",
                "-q",
                "-B",
                "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy",
                artifact,
                f"-DoutputDirectory={folder}",
            ]
            done = subprocess.run(
                command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=400
            )
            if done.returncode != 0:
                pytest.fail(f"Maven could not download Keycloak {VERSION}: {(done.stdout + done.stderr)[-1000:]}")
            (Path(folder) / archive.name).replace(archive)
    with archive.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != SHA256:
            pytest.fail(f"{archive} is not the Keycloak {VERSION} that these tests know. Delete it, and find out why.")
    return archive


class Keycloak:
    """The server, in memory, in a folder of its own; `api` is its Admin REST API."""

    def __init__(self) -> None:
        archive = distribution()
        self.folder = Path(tempfile.mkdtemp(prefix="gdi-keycloak-"))
        self.url = f"http://127.0.0.1:{PORTS.take()}"
        self._password = secrets.token_urlsafe(24)
        try:
            with zipfile.ZipFile(archive) as packed:
                packed.extractall(self.folder)
            launcher = self.folder / f"keycloak-{VERSION}" / "bin" / "kc.sh"
            launcher.chmod(0o755)
            argv = [
                "start-dev",
                f"--http-port={urlsplit(self.url).port}",
                "--http-host=127.0.0.1",
                "--db=dev-mem",
                f"--features={FEATURES}",
            ]
            env = {
                "KC_BOOTSTRAP_ADMIN_USERNAME": "admin",
                "KC_BOOTSTRAP_ADMIN_PASSWORD": self._password,
                # starts sooner; it does not live long enough for more
                "JAVA_OPTS_APPEND": "-Xms64m -Xmx640m -XX:TieredStopAtLevel=1",
                "HOME": str(self.folder),
                **({"JAVA_HOME": os.environ["JAVA_HOME"]} if "JAVA_HOME" in os.environ else {}),
            }
            self.process = Process([str(launcher), *argv], self.folder / "keycloak.log", env)
            self.process.start(self.url + "/realms/master", 240)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        if hasattr(self, "process"):
            self.process.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def api(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        form = {"grant_type": "password", "client_id": "admin-cli", "username": "admin", "password": self._password}
        with httpx.Client(base_url=self.url, trust_env=False, timeout=60) as http:
            token = (
                http.post("/realms/master/protocol/openid-connect/token", data=form)
                .raise_for_status()
                .json()["access_token"]
            )
            answer = http.request(
                method, f"/admin/realms{path}", json=body, params=query, headers={"Authorization": f"Bearer {token}"}
            )
        assert answer.is_success, f"{method} {path}: HTTP {answer.status_code} {answer.text[:500]}"
        return answer.json() if answer.content else None


def login(authorize_url: str, username: str, password: str) -> str:
    """Fills in Keycloak's login form; the URL to which it redirects. Its cookies are `Secure` also on loopback: sent by
    hand, as a browser would.
    """
    shown = httpx.get(authorize_url, trust_env=False, timeout=60)
    action = re.search(r'action="([^"]+)"', shown.text)
    assert action is not None, f"no login form: HTTP {shown.status_code} {shown.headers.get('location', '')[:300]}"
    cookies = "; ".join(f"{c.name}={c.value}" for c in shown.cookies.jar)
    form = {"username": username, "password": password}
    answer = httpx.post(html.unescape(action[1]), data=form, headers={"Cookie": cookies}, trust_env=False, timeout=60)
    assert answer.status_code == 302, f"Keycloak did not sign {username} in: HTTP {answer.status_code}"
    return answer.headers["location"]


def decide_device(url: str, username: str, password: str, *, allow: bool) -> str:
    """What the person does at the address that a terminal shows: signs in, and lets it in or not. The last page."""
    cookies: dict[str, str] = {}

    def shown(method: str, to: str, form: dict[str, str] | None = None) -> str:
        for _ in range(10):
            cookie = {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}
            answer = httpx.request(method, to, data=form, headers=cookie, trust_env=False, timeout=60)
            cookies.update({c.name: c.value or "" for c in answer.cookies.jar})
            if not answer.is_redirect:
                return answer.text
            method, to, form = "GET", str(answer.url.join(answer.headers["location"])), None
        raise AssertionError(f"redirects without end at {to}")

    def action(page: str) -> str:
        found = re.search(r'<form[^>]*action="([^"]+)"', page)
        assert found is not None, page[-2000:]
        return urljoin(url, html.unescape(found[1]))

    page = shown("GET", url)
    page = shown("POST", action(page), {"username": username, "password": password})
    code = re.search(r'name="code" value="([^"]+)"', page)
    assert code is not None, page[-2000:]
    return shown("POST", action(page), {"code": html.unescape(code[1]), "accept" if allow else "cancel": "x"})


class KeycloakWorld(World):
    """A world whose users, clients and tokens are Keycloak's; the LS AAI stand-in is there as REMS only."""

    def __init__(self, folder: Path, bao: OpenBao, keycloak: Keycloak, *, access: int, **options: Any) -> None:
        super().__init__(folder, bao, **options)
        self.keycloak, self.realm = keycloak, f"gdi-{secrets.token_hex(4)}"
        self.issuer = f"{keycloak.url}/realms/{self.realm}"
        self.subs = {name: str(uuid.uuid4()) for name in ("alice", "bob")}
        keycloak.api("POST", "", self._realm(access))
        self._allow_narrowing()
        for dataset in DATASETS.values():
            self._rems("POST", json={"user": self.subs["alice"], "dataset": dataset})
        headers = {"x-rems-api-key": self.secrets["rems"], "x-rems-user-id": "owner"}
        found = httpx.get(
            f"{self.aai_url}/rems/api/permissions/{self.subs['alice']}", headers=headers, trust_env=False
        ).raise_for_status()
        self.visas: list[str] = found.json()["ga4gh_passport_v1"]
        self.publish(self.visas)

    def enrolment(self) -> dict[str, Any]:
        found = super().enrolment()
        return {**found, "portals": [*found["portals"], {"client_id": "terminal", "airflow_users": ["portal"]}]}

    def _realm(self, access: int) -> dict[str, Any]:
        def client(name: str, secret: str, *redirects: str, **more: Any) -> dict[str, Any]:
            scopes = {"defaultClientScopes": ["basic"], "optionalClientScopes": ["ga4gh_passport_v1", "offline_access"]}
            attributes = {"pkce.code.challenge.method": "S256"} if redirects else {}
            return {
                "clientId": name,
                "secret": secret,
                "redirectUris": list(redirects),
                "attributes": attributes,
                **scopes,
                **more,
            }

        def mapper(kind: str, **config: str) -> dict[str, Any]:
            return {
                "name": kind,
                "protocol": "openid-connect",
                "protocolMapper": kind,
                "config": {k.replace("_", "."): v for k, v in config.items()},
            }

        def scope(name: str, *mappers: dict[str, Any]) -> dict[str, Any]:
            return {
                "name": name,
                "protocol": "openid-connect",
                "attributes": {"include.in.token.scope": "true"},
                "protocolMappers": list(mappers),
            }

        subject = mapper("oidc-sub-mapper", access_token_claim="true", introspection_token_claim="true")
        # The portal's tokens are for the broker: only then does Keycloak let it exchange them.
        for_broker = mapper(
            "oidc-audience-mapper",
            included_client_audience="token-broker",
            access_token_claim="true",
            introspection_token_claim="true",
        )
        nodes = [n[a] for n in self.enrolment()["nodes"] for a in ("sda_audience", "tes_audience")]
        return {
            "realm": self.realm,
            "enabled": True,
            "sslRequired": "none",
            "revokeRefreshToken": True,
            "refreshTokenMaxReuse": 0,
            "accessTokenLifespan": access,
            "offlineSessionIdleTimeout": 600,
            "eventsEnabled": True,
            "enabledEventTypes": [e + end for e in EVENTS for end in ("", "_ERROR")],
            "clientScopes": [scope("basic", subject), scope("ga4gh_passport_v1")],
            "clients": [
                client("user-portal", self.secrets["portal"], REDIRECT, protocolMappers=[for_broker]),
                client("stranger", self.secrets["stranger"], REDIRECT, protocolMappers=[for_broker]),
                client("terminal", "", publicClient=True, protocolMappers=[for_broker], attributes=DEVICE),
                client("token-broker", self.secrets["broker"], self.public_url + "/connect/callback"),
                *(client(audience, self.secrets["admin"]) for audience in nodes),
            ],
            "users": [
                {
                    "id": sub,
                    "username": name,
                    "enabled": True,
                    "email": f"{name}@example.org",
                    "emailVerified": True,
                    "firstName": name,
                    "lastName": "X",
                    "credentials": [{"type": "password", "value": self.secrets[name], "temporary": False}],
                    "realmRoles": ["offline_access", f"default-roles-{self.realm}"],
                }
                for name, sub in self.subs.items()
            ],
        }

    def _allow_narrowing(self) -> None:
        """The broker's client, and no other, may exchange for the nodes' audiences."""
        api, realm = self.keycloak.api, f"/{self.realm}"
        ids = {c["clientId"]: c["id"] for c in api("GET", f"{realm}/clients")}
        permissions = [
            api("PUT", f"{realm}/clients/{ids[node[audience]]}/management/permissions", {"enabled": True})[
                "scopePermissions"
            ]["token-exchange"]
            for node in self.enrolment()["nodes"]
            for audience in ("sda_audience", "tes_audience")
        ]
        authz = f"{realm}/clients/{ids['realm-management']}/authz/resource-server"
        policy = api("POST", f"{authz}/policy/client", {"name": "broker", "clients": [ids["token-broker"]]})["id"]
        for permission in permissions:
            path = f"{authz}/permission/scope/{permission}"
            api("PUT", path, {**api("GET", path), "policies": [policy]})

    def publish(self, visas: list[str]) -> None:
        """Userinfo shows these visas from now on, to every user (those of others do not count)."""
        api, realm = self.keycloak.api, f"/{self.realm}"
        scope = next(s for s in api("GET", f"{realm}/client-scopes") if s["name"] == "ga4gh_passport_v1")
        path = f"{realm}/client-scopes/{scope['id']}/protocol-mappers/models"
        for old in scope.get("protocolMappers", []):
            api("DELETE", f"{path}/{old['id']}")
        where = {
            "userinfo.token.claim": "true",
            "access.token.claim": "false",
            "id.token.claim": "false",
            "introspection.token.claim": "false",
        }
        config = {
            "claim.name": "ga4gh_passport_v1",
            "claim.value": json.dumps(visas),
            "jsonType.label": "JSON",
            **where,
        }
        api(
            "POST",
            path,
            {
                "name": "visas",
                "protocol": "openid-connect",
                "protocolMapper": "oidc-hardcoded-claim-mapper",
                "config": config,
            },
        )

    # --- what World asks of its provider ---------------------------------------------------------

    @functools.cached_property
    def endpoints(self) -> dict[str, str]:
        found: dict[str, str] = (
            httpx.get(self.issuer + "/.well-known/openid-configuration", trust_env=False, timeout=60)
            .raise_for_status()
            .json()
        )
        return found

    def sign_in(
        self, user: str = "alice", client: str = "user-portal", scope: str = SCOPE.replace("profile ", "")
    ) -> TokenAnswer:
        secret = self.secrets["portal" if client == "user-portal" else client]
        verifier, challenge = pkce()
        asked = {"response_type": "code", "client_id": client, "redirect_uri": REDIRECT, "scope": scope, "state": "s"}
        url = httpx.URL(
            self.endpoints["authorization_endpoint"],
            params={**asked, "code_challenge": challenge, "code_challenge_method": "S256"},
        )
        code = parse_qs(urlsplit(login(str(url), user, self.secrets[user])).query)["code"][0]
        body = (
            self.token(
                client,
                secret,
                grant_type="authorization_code",
                code=code,
                redirect_uri=REDIRECT,
                code_verifier=verifier,
            )
            .raise_for_status()
            .json()
        )
        return TokenAnswer(body["access_token"], body["expires_in"], body["scope"], body.get("refresh_token"))

    def token(self, client: str, secret: str, **form: str) -> httpx.Response:
        return httpx.post(
            self.endpoints["token_endpoint"], data=form, auth=(client, secret), trust_env=False, timeout=60
        )

    def introspect(self, token: str, client: str = "token-broker", secret: str | None = None) -> dict[str, Any]:
        auth = (quote(client, safe=""), secret or self.secrets["broker"])  # RFC 6749 §2.3.1: a client's id may be a URL
        answer = httpx.post(
            self.endpoints["introspection_endpoint"], data={"token": token}, auth=auth, trust_env=False, timeout=60
        )
        found: dict[str, Any] = answer.raise_for_status().json()
        return found

    def userinfo(self, token: str) -> httpx.Response:
        return httpx.get(
            self.endpoints["userinfo_endpoint"],
            headers={"Authorization": f"Bearer {token}"},
            trust_env=False,
            timeout=60,
        )

    def events(self, kind: str) -> int:
        """How many there were of one of EVENTS, or of its failure (`…_ERROR`), by the broker's client."""
        return len(self.keycloak.api("GET", f"/{self.realm}/events", type=kind, client="token-broker", max=1000))

    def kept(self, grant: str) -> dict[str, Any]:
        """What Vault holds of a grant."""
        with self.bao.as_operator() as operator:
            found: dict[str, Any] = operator.get(f"/v1/gdi/data/grants/{grant}").raise_for_status().json()["data"]
            return found

    def keep(self, grant: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Changes what Vault holds of a grant, as a replica that then dies would have left it."""
        record = self.kept(grant)
        with self.bao.as_operator() as operator:
            body = {"data": change(record["data"]), "options": {"cas": record["metadata"]["version"]}}
            operator.post(f"/v1/gdi/data/grants/{grant}", json=body).raise_for_status()

    def alice(self, replica: int = 0) -> BrokerClient:
        return self.user("alice", replica=replica)
