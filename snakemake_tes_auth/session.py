"""One process's dealings with one node: the loop, the HTTP client with its token, the TES, the files' metadata. Executor and storage share it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, TypeVar

import httpx

from snakemake_tes_auth.loop import LoopThread
from snakemake_tes_auth.metadata import Metadata
from snakemake_tes_auth.outcome import OutcomeFile
from snakemake_tes_auth.retry import Away, Patience, Refused
from snakemake_tes_auth.runfile import Folders, RunFile, load
from snakemake_tes_auth.tes import TesClient
from snakemake_tes_auth.tokens import BrokerTokens, TokenAuth

T = TypeVar("T")
TIMEOUT = httpx.Timeout(60, connect=5)
log = logging.getLogger("snakemake.logger")


class Session:
    """Made once for each run.json; see `session`. `ask` runs a call on the loop and turns what cannot be mended into an outcome the pod can read."""

    def __init__(self, run: RunFile, folders: Folders, *, patience: Patience) -> None:
        self.run = run
        self.folders = folders
        self.loop = LoopThread()
        self.given_up: Away | Refused | None = None
        self.outcome = OutcomeFile(folders.state / "outcome.json" if folders.state.is_dir() else None)
        self.tokens = BrokerTokens(run, folders.identity)
        name = f"the gateway of {run.node}"
        limits = httpx.Limits(max_connections=32, max_keepalive_connections=16)
        self._http = self.loop.run(_client(run.gateway_url, TokenAuth(self.tokens), limits))
        self.tes = TesClient(self._http, patience=patience, say=log.warning, name=name)
        self.metadata = Metadata(self._http, run.run, patience=patience, say=log.warning, name=name)

    def ask(self, work: Awaitable[T]) -> T:
        """The result of a call of this session's clients, from any other thread."""
        return self.loop.run(self.guard(work))

    async def guard(self, work: Awaitable[T]) -> T:
        """`work`, with Away and Refused written down for the pod before they are raised. After the first of them nothing is tried again:
        each of Snakemake's questions would wait as long anew."""
        if self.given_up is not None:
            if asyncio.iscoroutine(work):
                work.close()
            raise self.given_up
        try:
            return await work
        except Away as error:
            self.given_up = error
            self.outcome.write("again", str(error))
            raise
        except Refused as error:
            self.given_up = error
            self.outcome.write("refused", str(error), error.dataset)
            raise


async def _client(url: str, auth: httpx.Auth, limits: httpx.Limits) -> httpx.AsyncClient:
    # trust_env=False: no proxy or netrc of the surroundings may see a token.
    return httpx.AsyncClient(base_url=url, auth=auth, timeout=TIMEOUT, limits=limits, trust_env=False)


_sessions: dict[Path, Session] = {}
_lock = threading.Lock()


def session(run_file: Path, **arguments: Any) -> Session:
    """The process's session for this run.json, made at the first call. RunFileError where the file is wrong."""
    path = run_file.absolute()
    with _lock:
        if path not in _sessions:
            folders = Folders(root=path.parent)
            _sessions[path] = Session(load(path), folders, patience=arguments.get("patience") or Patience())
        return _sessions[path]
