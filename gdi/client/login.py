"""Signing in from a terminal: the device authorization grant (RFC 8628), and the login that stays, in a file of mode
0600.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from gdi.contracts.portal_api import SignInHint
from gdi.kit.bounded_read import BoundedClient
from gdi.kit.problem import ProblemError
from gdi.kit.secret_files import read_secret, write_private
from gdi.kit.settings import SettingsError
from gdi.kit.tls import authorities

GRANT = "urn:ietf:params:oauth:grant-type:device_code"
EARLY = 30.0  # seconds before its end at which an access token is renewed
LONGEST = 366 * 86400.0
ENDED = ("invalid_grant", "invalid_client", "unauthorized_client")  # what ends a login (RFC 6749 §5.2)
MAX_ANSWER = 1024 * 1024


def seconds(value: object, otherwise: float) -> float:
    """A lifetime as providers write it (`3600`, `"3600"`, `"3600s"`), at most a year; `otherwise` where it is none."""
    try:
        found = float(str(value).strip().removesuffix("s"))
    except ValueError:
        return otherwise
    return min(found, LONGEST) if found > 0 else otherwise  # NaN is not above 0


def login_file() -> Path:
    """Where the login is kept: `GDI_LOGIN_FILE`, else below XDG_CONFIG_HOME."""
    if named := os.environ.get("GDI_LOGIN_FILE"):
        return Path(named)
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "gdi" / "login.json"


@dataclass
class StoredLogin:
    """Who is signed in where. Nothing of it is shown by its repr."""

    portal: str
    token_endpoint: str
    client_id: str
    access: str
    refresh: str
    until: float

    def __repr__(self) -> str:
        return f"StoredLogin({self.portal!r})"

    def access_token(self) -> str:
        """Good for at least some seconds; renewed, and kept, where it is about to end. ProblemError 401 `signed-out`
        where LS AAI no longer knows the login.
        """
        if time.time() < self.until - EARLY:
            return self.access
        if not self.refresh:
            if time.time() < self.until:
                return self.access
            raise signed_out()
        form = {"grant_type": "refresh_token", "refresh_token": self.refresh, "client_id": self.client_id}
        with _http() as http:
            answer = _form(http, self.token_endpoint, form)
        if "access_token" not in answer:
            if answer.get("error") in ENDED:
                raise signed_out()
            what = str(answer.get("error"))[:60]
            raise ProblemError(
                503,
                "provider-unavailable",
                f"LS AAI did not renew the login ({what}).",
                action="Try again in a minute.",
            )
        self._take(answer)
        self.keep()
        return self.access

    def _take(self, answer: dict[str, Any]) -> None:
        self.access = str(answer["access_token"])
        self.refresh = str(answer.get("refresh_token") or self.refresh)
        self.until = time.time() + seconds(answer.get("expires_in"), 300)

    def keep(self, file: Path | None = None) -> None:
        write_private(file or login_file(), json.dumps(asdict(self)))


def stored_login(file: Path | None = None) -> StoredLogin:
    """The login that was kept. ProblemError 401 `signed-out` where there is none."""
    file = file or login_file()
    if not file.exists():
        raise signed_out()
    try:
        return StoredLogin(**json.loads(read_secret(file, "the login")))
    except (SettingsError, ValueError, TypeError) as error:
        raise ProblemError(401, "signed-out", f"The login cannot be read: {error}", action="gdi login") from None


def signed_out() -> ProblemError:
    return ProblemError(401, "signed-out", "You are not signed in here.", action="gdi login --portal URL")


@dataclass(frozen=True)
class DeviceLogin:
    """A sign-in that waits for the person: they open `url` and type `code` (or open `whole`, which has it)."""

    portal: str
    client_id: str
    token_endpoint: str
    device_code: str
    code: str
    url: str
    whole: str
    interval: float
    ends_at: float

    def __repr__(self) -> str:
        return f"DeviceLogin({self.portal!r}, {self.code!r})"

    @classmethod
    def begin(cls, portal: str) -> DeviceLogin:
        """Asks the portal where people sign in, and LS AAI for a code. ProblemError where one of them is away, or this
        portal has no sign-in for terminals.
        """
        portal = portal.rstrip("/")
        with _http() as http:
            hint = SignInHint.model_validate(_get(http, portal + "/v1/sign-in"))
            if hint.issuer is None or hint.client_id is None:
                raise ProblemError(
                    404, "no-terminal-sign-in", f"{portal} names no sign-in for terminals.", action="Ask its operator."
                )
            provider = _get(http, hint.issuer.rstrip("/") + "/.well-known/openid-configuration")
            endpoint = provider.get("device_authorization_endpoint")
            if not isinstance(endpoint, str):
                raise ProblemError(404, "no-terminal-sign-in", "LS AAI offers no device code.", action="Use the pages.")
            answer = _form(http, endpoint, {"client_id": hint.client_id, "scope": hint.scope})
        if "device_code" not in answer:
            raise _refused(answer)
        needed = {"token_endpoint": provider, "user_code": answer, "verification_uri": answer}
        if missing := next((name for name, of in needed.items() if not isinstance(of.get(name), str)), None):
            raise ProblemError(502, "bad-answer", f"LS AAI named no {missing}.", action="Use the pages.")
        return cls(
            portal=portal,
            client_id=hint.client_id,
            token_endpoint=str(provider["token_endpoint"]),
            device_code=str(answer["device_code"]),
            code=str(answer["user_code"]),
            url=str(answer["verification_uri"]),
            whole=str(answer.get("verification_uri_complete") or answer["verification_uri"]),
            interval=seconds(answer.get("interval"), 5),
            ends_at=time.time() + seconds(answer.get("expires_in"), 600),
        )

    def wait(self, sleep: Callable[[float], None] = time.sleep) -> StoredLogin:
        """Until the person has decided. ProblemError 403 where they refused or took too long."""
        form = {"grant_type": GRANT, "device_code": self.device_code, "client_id": self.client_id}
        interval = self.interval
        with _http() as http:
            while time.time() < self.ends_at:
                sleep(interval)
                answer = _form(http, self.token_endpoint, form)
                if "access_token" in answer:
                    login = StoredLogin(self.portal, self.token_endpoint, self.client_id, "", "", 0.0)
                    login._take(answer)
                    return login
                match answer.get("error"):
                    case "authorization_pending":
                        continue
                    case "slow_down":
                        interval += 5
                    case _:
                        raise _refused(answer)
        raise _refused({"error": "expired_token"})


def _refused(answer: dict[str, Any]) -> ProblemError:
    what = {"access_denied": "You refused the sign-in.", "expired_token": "The code has ended."}
    known = what.get(str(answer.get("error")), f"LS AAI refused the sign-in ({str(answer.get('error'))[:60]}).")
    return ProblemError(403, "sign-in-refused", known, action="gdi login")


def _http() -> BoundedClient:
    return BoundedClient(timeout=30, verify=authorities(), max_answer=MAX_ANSWER)


def _get(http: httpx.Client, url: str) -> dict[str, Any]:
    return _object(http.get(url), url)


def _form(http: httpx.Client, url: str, form: dict[str, str]) -> dict[str, Any]:
    """The JSON of the answer, also of a refusal (RFC 6749 §5.2)."""
    return _object(http.post(url, data=form), url, refusals=True)


def _object(answer: httpx.Response, url: str, *, refusals: bool = False) -> dict[str, Any]:
    try:
        found = answer.json() if answer.is_success or (refusals and answer.status_code < 500) else None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        place = url.split("?")[0]
        raise ProblemError(502, "bad-answer", f"{place} answered {answer.status_code}.", action="Is the URL right?")
    return found
