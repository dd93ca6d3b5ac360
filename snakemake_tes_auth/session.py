"""One process's dealings with one TES or gateway: the loop, the HTTP client with its token, the tasks, the workflow's
files, the files' metadata.
"""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, TypeVar

import httpx
from tes.models import Task

from gdi.contracts.run_file import load
from gdi.kit.bearer import BearerAuth
from gdi.kit.retry import RetryPolicy
from snakemake_tes_auth.credentials.tokens import BrokerTokens, TokenSource
from snakemake_tes_auth.files.metadata import FileMetadata
from snakemake_tes_auth.folders import Folders
from snakemake_tes_auth.loop import LoopThread
from snakemake_tes_auth.outcome import OutcomeFile
from snakemake_tes_auth.retry import Away, Refusal, check_words
from snakemake_tes_auth.tasks.sources import GatewayStore, Sources, SourceStore
from snakemake_tes_auth.tes.client import TesClient
from snakemake_tes_auth.tes.transport import AiohttpTransport

T = TypeVar("T")
TIMEOUT = httpx.Timeout(60, connect=5)
CONNECTIONS = 32  # at once to one server
log = logging.getLogger("snakemake.logger")


class Session:
    """`name` finds the run's tasks again (tag `gdi-run`); `digest` pins its workflow; `place` is where no other run can
    be at work (tag `gdi-place`); `server` is what messages call the TES, `node` what events do.

    `metadata` asks the gateway after files; None in bare use, where Snakemake's own storage plugins answer. `ask` runs
    a call on the loop and turns what cannot be mended into an outcome that a pod can read. Two makers: `session` (a
    run.json) and `settings.open_session` (any TES).
    """

    def __init__(
        self,
        *,
        name: str,
        digest: str,
        url: str,
        server: str,
        node: str,
        tokens: TokenSource,
        patience: RetryPolicy,
        gateway: bool = False,
        store: SourceStore | None = None,
        outcome: Path | None = None,
        place: str = "",
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        self.name, self.digest, self.place, self.server, self.node = name, digest, place, server, node
        self.loop = LoopThread()
        self.given_up: Away | Refusal | None = None
        self.outcome = OutcomeFile(outcome)
        self.tokens = tokens
        self._http = self.loop.run(_client(url, BearerAuth(tokens), verify, gateway=gateway))
        self.tes = TesClient(self._http, patience=patience, say=log.warning, name=server, idempotent=gateway)
        self.metadata: FileMetadata | None = None
        if gateway:
            self.metadata = FileMetadata(
                self._http, name, patience=patience, say=log.warning, name=server, task=self._outputs
            )
            store = GatewayStore(self._http, name, patience=patience, say=log.warning, server=server)
        self.sources = Sources(store)

    async def _outputs(self, identifier: str) -> Task:
        return await self.tes.get(identifier, "BASIC")

    def ask(self, work: Awaitable[T]) -> T:
        """The result of a call of this session's clients, from any other thread."""
        return self.loop.run(self.guard(work))

    async def guard(self, work: Awaitable[T]) -> T:
        """`work`, with Away and Refusal written down for the pod before they are raised. After the first of them
        nothing is tried again: each of Snakemake's questions would wait as long anew."""
        if self.given_up is not None:
            if hasattr(work, "close"):
                work.close()
            raise self.given_up
        try:
            return await work
        except Away as error:
            self.given_up = error
            self.outcome.write("again", str(error))
            raise
        except Refusal as error:
            self.given_up = error
            self.outcome.write("refused", str(error), error.dataset)
            raise


class _NoCookies(httpx.Cookies):
    """Keeps none: a server's session cookie must not speak for the next request (and looking for one in each answer
    costs).
    """

    def extract_cookies(self, response: httpx.Response) -> None:
        return


_NO_COOKIES = _NoCookies()


class _Client(httpx.AsyncClient):
    @property
    def cookies(self) -> httpx.Cookies:
        return _NO_COOKIES

    @cookies.setter
    def cookies(self, cookies: object) -> None:
        raise AttributeError("this client keeps no cookies")


class _GatewayClient(_Client):
    """Whose server says in its own words what it refuses. After the token was replaced: a proxy's 401 may be of it."""

    async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        answer = await super().send(request, **options)
        check_words(answer)
        return answer


async def _client(url: str, auth: httpx.Auth, verify: ssl.SSLContext | bool, *, gateway: bool) -> httpx.AsyncClient:
    # trust_env=False: no proxy or netrc of the surroundings may see a token.
    transport = AiohttpTransport(connections=CONNECTIONS, verify=verify)
    kind = _GatewayClient if gateway else _Client
    return kind(base_url=url, auth=auth, timeout=TIMEOUT, transport=transport, trust_env=False)


_sessions: dict[Path, Session] = {}
_lock = threading.Lock()


def session(run_file: Path, *, patience: RetryPolicy | None = None) -> Session:
    """The process's session for this run.json, made at the first call; executor and storage share it. RunFileError
    where the file is wrong.
    """
    path = run_file.absolute()
    with _lock:
        if path not in _sessions:
            run, folders = load(path), Folders(root=path.parent)
            _sessions[path] = Session(
                name=run.run,
                digest=run.digest,
                url=run.gateway_url,
                server=f"the gateway of {run.node}",
                node=run.node,
                tokens=BrokerTokens(run, folders.identity),
                patience=patience or RetryPolicy(),
                gateway=True,
                outcome=folders.state / "outcome.json" if folders.state.is_dir() else None,
            )
        return _sessions[path]
