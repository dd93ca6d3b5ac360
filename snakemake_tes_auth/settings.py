"""The executor's settings, and the session that they describe: a run's gateway (run.json), or any TES with Snakemake's
own storage beside it.
"""

import hashlib
import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.settings import ExecutorSettingsBase

from gdi.contracts.run_file import RunFileError
from gdi.kit.retry import RetryPolicy
from snakemake_tes_auth import hooks
from snakemake_tes_auth.credentials.oauth import ClientCredentials, check_secret_url
from snakemake_tes_auth.credentials.tokens import (
    BasicPassword,
    FileTokens,
    FixedToken,
    NoToken,
    TokenSource,
    refuse_argument,
)
from snakemake_tes_auth.retry import Refusal
from snakemake_tes_auth.session import Session, session
from snakemake_tes_auth.tasks.sources import StorageStore
from snakemake_tes_auth.workflow import adapter

API = "/ga4gh/tes/v1"
TOKEN_VARIABLE = "SNAKEMAKE_TES_AUTH_TOKEN"  # noqa: S105
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_URL = re.compile(r"https?://[A-Za-z0-9.\-\[\]:]+(/[A-Za-z0-9._~%/-]*)?")


# Snakemake reads the types below as objects: no postponed annotations in this file.
@dataclass
class ExecutorSettings(ExecutorSettingsBase):
    """Exactly one of `run_file` and `url`; at most one kind of credential."""

    url: str | None = field(
        default=None,
        metadata={
            "help": "the TES, such as https://tes.example.org (with or without /ga4gh/tes/v1)",
            "type": str,
            "env_var": True,
        },
    )
    run_file: str | None = field(
        default=None,
        metadata={"help": "run.json of a federated run, which names its node's gateway and the broker", "type": str},
    )
    run_name: str | None = field(
        default=None,
        metadata={
            "help": (
                "the name by which the run's tasks are found again (tag gdi-run); default: made from the storage prefix"
                " and the workflow"
            ),
            "type": str,
        },
    )
    token: str | None = field(
        default=None,
        repr=False,
        metadata={
            "help": "a bearer token; set it by the environment variable, never as an argument",
            "type": str,
            "env_var": True,
        },
    )
    token_file: Path | None = field(
        default=None, metadata={"help": "a file that holds the bearer token; read again for each request", "type": Path}
    )
    user: str | None = field(default=None, metadata={"help": "the user of HTTP Basic authentication", "type": str})
    password_file: Path | None = field(
        default=None, metadata={"help": "a file that holds the user's password", "type": Path}
    )
    client_id: str | None = field(
        default=None, metadata={"help": "the client of OAuth 2.0 client credentials", "type": str}
    )
    client_secret_file: Path | None = field(
        default=None, metadata={"help": "a file that holds the client's secret", "type": Path}
    )
    token_url: str | None = field(
        default=None, metadata={"help": "the token endpoint of client credentials", "type": str}
    )
    issuer: str | None = field(
        default=None,
        metadata={"help": "the issuer, whose OpenID Connect discovery names the token endpoint", "type": str},
    )
    scope: str | None = field(default=None, metadata={"help": "the scope to ask for", "type": str})
    audience: str | None = field(default=None, metadata={"help": "the audience to ask for", "type": str})
    ca_file: Path | None = field(
        default=None,
        metadata={"help": "certificates (PEM) of the authority that signed the TES's certificate", "type": Path},
    )
    plain_http: bool = field(default=False, metadata={"help": "send credentials over plain http to another machine"})
    mode: str = field(
        default="auto",
        metadata={
            "help": (
                "how a job becomes a task: direct (its own command in its own container), snakemake (Snakemake in the"
                " task), auto: direct where possible"
            ),
            "type": str,
            "choices": ["auto", "direct", "snakemake"],
        },
    )
    image: str | None = field(
        default=None,
        metadata={
            "help": (
                "the image for jobs without a container of their own and for Snakemake in a task; default: gdi-task:1"
                " in a federated run, else Snakemake's --container-image"
            ),
            "type": str,
        },
    )
    files: list[str] | None = field(
        default=None,
        metadata={
            "help": (
                "globs below the Snakefile's folder or the working directory: files that go to the tasks besides those"
                " that are found, or, with ! before them, that stay here"
            ),
            "type": str,
            "nargs": "+",
        },
    )
    patience: int = field(default=600, metadata={"help": "seconds to wait for a TES that is away", "type": int})

    def __post_init__(self) -> None:
        # Made only where this executor was chosen, and before the workflow is read.
        hooks.install()

    @property
    def secret_files(self) -> frozenset[Path]:
        """The files that hold this process's credentials: none of them goes to a task."""
        identity = Path(self.run_file).parent / "identity" / "token" if self.run_file else None
        given = (self.token_file, self.password_file, self.client_secret_file, self.run_file, identity)
        return frozenset(Path(f).absolute() for f in given if f) | frozenset(Path(f).resolve() for f in given if f)


def open_session(settings: ExecutorSettings, workflow: Any) -> Session:
    """The session of this Snakemake. WorkflowError where the settings do not fit together, in words for who typed
    them.
    """
    if (settings.run_file is None) == (settings.url is None):
        raise WorkflowError(
            "the executor tes-auth needs to know its TES: give either --tes-auth-url https://… or (in a federated run)"
            " --tes-auth-run-file run.json"
        )
    patience = RetryPolicy(total=max(1, settings.patience))
    try:
        if settings.run_file is not None:
            return session(Path(settings.run_file), patience=patience)
        return _bare(settings, workflow, patience)
    except (Refusal, RunFileError) as error:
        raise WorkflowError(str(error)) from None


def _bare(settings: ExecutorSettings, workflow: Any, patience: RetryPolicy) -> Session:
    url = base_url(settings.url or "")
    source = credential(settings, url)
    digest = adapter.identity(workflow)
    provider, prefix = adapter.default_storage(workflow)
    name = settings.run_name or "bare-" + hashlib.sha256(f"{prefix}\0{digest}".encode()).hexdigest()[:20]
    if not _NAME.fullmatch(name):
        raise WorkflowError(
            f"--tes-auth-run-name {name[:120]!r}: 1 to 100 of A-Z a-z 0-9 . _ -, beginning with a letter or a digit"
        )
    return Session(
        name=name,
        digest=digest,
        url=url,
        server=f"the TES at {urlsplit(url).netloc}",
        node=urlsplit(url).netloc,
        tokens=source,
        patience=patience,
        store=StorageStore.of(provider, prefix),
        place=adapter.place(workflow, prefix),
        verify=_verify(settings),
    )


def base_url(url: str) -> str:
    """The TES's address without the API's own path, which every call adds."""
    plain = url.strip().rstrip("/").removesuffix("/service-info").removesuffix("/tasks").removesuffix(API)
    if not _URL.fullmatch(plain):
        shown = urlsplit(url)._replace(netloc=urlsplit(url).netloc.rpartition("@")[2], query="", fragment="").geturl()
        raise WorkflowError(
            f"--tes-auth-url {shown[:200]!r} is no address of a TES: write https://HOST[:PORT][/PATH], with no user or"
            " password in it"
        )
    return plain


def credential(settings: ExecutorSettings, url: str) -> TokenSource:
    """The one credential that the settings name. WorkflowError for more than one or half of one; Refusal for one that
    may not be used so.
    """
    refuse_argument("--tes-auth-token", TOKEN_VARIABLE)
    kinds = {
        "token": settings.token,
        "token-file": settings.token_file,
        "user": settings.user or settings.password_file,
        "client-id": settings.client_id or settings.client_secret_file,
    }
    given = [name for name, value in kinds.items() if value]
    if len(given) > 1:
        raise WorkflowError(
            "more than one credential is given: " + ", ".join(f"--tes-auth-{name}" for name in given) + "; keep one"
        )
    if not given:
        return NoToken()
    check_secret_url(url, plain_http=settings.plain_http)
    if settings.token:
        return FixedToken(settings.token, f"the environment variable {TOKEN_VARIABLE}")
    if settings.token_file:
        return FileTokens(settings.token_file)
    if given == ["user"]:
        if not settings.user or not settings.password_file:
            raise WorkflowError("HTTP Basic needs both --tes-auth-user and --tes-auth-password-file")
        return BasicPassword(settings.user, settings.password_file)
    if (
        not settings.client_id
        or not settings.client_secret_file
        or (settings.token_url is None) == (settings.issuer is None)
    ):
        raise WorkflowError(
            "client credentials need --tes-auth-client-id, --tes-auth-client-secret-file and one of"
            " --tes-auth-token-url and --tes-auth-issuer"
        )
    return ClientCredentials(
        client_id=settings.client_id,
        secret_file=settings.client_secret_file,
        token_url=settings.token_url,
        issuer=settings.issuer,
        scope=settings.scope,
        audience=settings.audience,
        verify=_verify(settings),
        plain_http=settings.plain_http,
    )


def _verify(settings: ExecutorSettings) -> ssl.SSLContext | bool:
    if settings.ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=str(settings.ca_file))
    except (OSError, ssl.SSLError) as error:
        raise WorkflowError(
            f"--tes-auth-ca-file {settings.ca_file}: no certificates could be read: {error.strerror or error}"
        ) from None
