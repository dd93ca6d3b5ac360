"""The broker's login at Vault: when there is a new one, when there is none though Vault said 403, and how long the old
token serves while no new one can be had.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import hvac
from hvac import exceptions as hx

from gdi.kit.settings import SettingsError
from token_broker.tokens.vault_http import UnusableAnswer
from token_broker.tokens.vault_login import VaultAuth

log = logging.getLogger(__name__)
RENEW_AT = 2 / 3  # of a token's life
LIFE = 3600.0  # seconds, of a token whose lifetime Vault does not tell
PAUSE, LONGEST_PAUSE = 5.0, 60.0  # seconds: after a login that was in vain, doubled each time
MOST_PATHS = 50_000


class VaultUnavailable(Exception):
    """Vault does not answer, is sealed, or refuses the broker's login; the message says which and carries nothing
    secret.
    """


class VaultSession:
    """Logins of one client, numbered from 1.

    Vault answers 403 both to a dead token and to a path outside the policy. A path that this very token could reach
    before tells of a dead token; for any other there is a new login, and where that changes nothing the next ones wait,
    ever longer: each login is a lease in Vault.
    """

    def __init__(self, client: hvac.Client, auth: VaultAuth) -> None:
        self._client, self._auth = client, auth
        self._lock = asyncio.Lock()
        self._number = 0
        self._renew_at = self._ends_at = 0.0
        self._paths: set[str] = set()  # what this login could reach
        self._made_for = ""  # the refused path for which this login was made, until it is reached
        self._quiet_until, self._pause = 0.0, PAUSE

    async def login(self) -> int:
        """Logs in where there is no token or two thirds of its life are over; its number. While no login works, the old
        token is used to its end.
        """
        if self._number and time.monotonic() < self._renew_at:
            return self._number
        async with self._lock:
            if self._number and time.monotonic() < self._renew_at:
                return self._number
            try:
                return await self._new()
            except VaultUnavailable as error:
                left = self._ends_at - time.monotonic()
                if not self._number or left <= 0:
                    raise
                log.warning("%s The old login is used for up to %.0f s more.", error, left)
                self._renew_at = time.monotonic() + min(left, PAUSE)
                return self._number

    def worked(self, what: str, number: int) -> None:
        """The token of login `number` could reach the path `what`."""
        if number != self._number:
            return
        if len(self._paths) < MOST_PATHS:
            self._paths.add(what)
        if what == self._made_for:
            self._made_for, self._quiet_until, self._pause = "", 0.0, PAUSE

    async def refused(self, what: str, number: int) -> None:
        """Vault said 403 at the path `what` to the token of login `number`. There is another login when this returns;
        VaultUnavailable where one was in vain just now.
        """
        async with self._lock:
            if number != self._number:
                return
            now = time.monotonic()
            if what in self._paths or now >= self._quiet_until:
                await self._new()
                self._made_for, self._quiet_until = what, now + self._pause
                self._pause = min(LONGEST_PAUSE, 2 * self._pause)
                return
        raise VaultUnavailable(
            "Vault refuses the broker's policy this path (403), also after a new login. Check the policy of its role."
        )

    async def _new(self) -> int:
        try:
            lease = await asyncio.to_thread(self._login)
        except SettingsError as error:
            raise VaultUnavailable(f"The broker cannot log in at Vault: {error}.") from None
        except UnusableAnswer as error:
            raise VaultUnavailable(f"Vault gives no right answer to the login ({error.why}).") from None
        except (hx.InvalidRequest, hx.Forbidden, hx.Unauthorized, hx.InvalidPath) as error:
            raise VaultUnavailable(
                f"Vault refuses the broker's {self._auth.name} login ({type(error).__name__}). {self._auth.advice}"
            ) from None
        except Exception as error:  # of requests, or of hvac over an answer of a kind unknown
            raise VaultUnavailable(
                f"Vault does not answer the login ({type(error).__name__}). Check that it runs and is unsealed."
            ) from None
        now = time.monotonic()
        self._renew_at, self._ends_at = now + lease * RENEW_AT, now + lease
        self._number += 1
        self._paths = set()
        log.info("logged in at Vault for %.0f s", lease)
        return self._number

    def _login(self) -> float:
        """Seconds that the new token lives. The client keeps the token, and its old one where this fails."""
        answer: dict[str, Any] = self._auth.prepare()(self._client)
        auth = answer.get("auth")
        lease = auth.get("lease_duration") if isinstance(auth, dict) else None
        return float(lease) if isinstance(lease, int | float) and not isinstance(lease, bool) and lease > 0 else LIFE
