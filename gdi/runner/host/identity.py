"""Identity tokens as a cluster makes them: ES256 JWTs that name service account, pod and uid; files are rewritten
before they expire.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from gdi.kit.jose import SigningKey
from gdi.kit.secret_files import read_secret
from gdi.kit.settings import SettingsError


def write_atomic(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Readers see the old file or the new one, never half of one."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(name, mode)  # noqa: PTH101
        os.replace(name, path)  # noqa: PTH105
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


class Identities:
    """Signs for one issuer. The key file is made (0600) when absent; one that others may read is refused."""

    def __init__(self, *, issuer: str, key_file: Path, namespace: str, audience: str, lifetime: float) -> None:
        self.issuer, self.namespace, self.audience, self.lifetime = issuer, namespace, audience, lifetime
        self._key = _key(key_file)

    def jwks(self) -> dict[str, Any]:
        return {"keys": [self._key.jwk()]}

    def write_jwks(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, json.dumps(self.jwks()).encode(), 0o644)

    def write(self, file: Path, *, account: str, pod: str, uid: str) -> None:
        """A fresh token for the pod into `file`."""
        claims = {
            "iss": self.issuer,
            "aud": self.audience,
            "sub": f"system:serviceaccount:{self.namespace}:{account}",
            "kubernetes.io": {
                "namespace": self.namespace,
                "serviceaccount": {"name": account},
                "pod": {"name": pod, "uid": uid},
            },
        }
        write_atomic(file, self._key.sign(claims, lifetime=self.lifetime).encode())


def _key(file: Path) -> SigningKey:
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        key = SigningKey.generate()
        write_atomic(file, key.pem())
        return key
    try:
        return SigningKey.from_pem(read_secret(file, "the signing key"))
    except SettingsError as error:
        raise SettingsError(f"{error}. Make a new key if others had access") from None
