"""How the broker logs in at Vault: by AppRole, or by the pod's Kubernetes identity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hvac

from gdi.kit.secret_files import read_secret_text
from gdi.kit.settings import SettingsError
from token_broker.settings import Settings


@dataclass(frozen=True)
class AppRole:
    """`POST /v1/auth/<mount>/login` with role id and secret id, each from its file."""

    role_id_file: Path
    secret_id_file: Path
    mount: str = "approle"
    name: str = "AppRole"
    advice: str = "Check the role and secret id files, TOKEN_BROKER_VAULT_AUTH_MOUNT and TOKEN_BROKER_VAULT_NAMESPACE."

    def prepare(self) -> Callable[[hvac.Client], dict[str, Any]]:
        role, secret = (read_secret_text(f, "Vault AppRole") for f in (self.role_id_file, self.secret_id_file))
        return lambda client: client.auth.approle.login(role_id=role, secret_id=secret, mount_point=self.mount)


@dataclass(frozen=True)
class Kubernetes:
    """`POST /v1/auth/<mount>/login` with the pod's projected service account token, which the kubelet rewrites."""

    mount: str
    role: str
    token_file: Path
    name: str = "Kubernetes"
    advice: str = (
        "Check that the role exists at that mount and is bound to the broker's service account, namespace and token"
        " audience."
    )

    def prepare(self) -> Callable[[hvac.Client], dict[str, Any]]:
        token = read_secret_text(self.token_file, "Vault's service account token", of_cluster=True)
        return lambda client: client.auth.kubernetes.login(role=self.role, jwt=token, mount_point=self.mount)


VaultAuth = (
    AppRole | Kubernetes
)  # `prepare` reads the files anew (they rotate) and gives the call; the client keeps the token that it brings


def auth_of(s: Settings) -> VaultAuth:
    """The way to log in that the settings name. SettingsError where a file of it is not set."""
    mount = s.vault_auth_mount or s.vault_auth
    if s.vault_auth == "kubernetes" and s.vault_token_file is not None:
        return Kubernetes(mount, s.vault_role, s.vault_token_file)
    if s.vault_auth == "approle" and s.vault_role_id_file is not None and s.vault_secret_id_file is not None:
        return AppRole(s.vault_role_id_file, s.vault_secret_id_file, mount)
    raise SettingsError(f"TOKEN_BROKER_VAULT_AUTH is {s.vault_auth}, and its files are not set.")
