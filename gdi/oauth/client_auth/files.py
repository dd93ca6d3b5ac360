"""The client's proof out of its file: the gateway's reviewers and the portal's users sign in with it."""

from __future__ import annotations

from pathlib import Path

from gdi.kit.secret_files import read_secret, read_secret_text
from gdi.kit.settings import SettingsError
from gdi.oauth.client_auth import ClientAuthentication, rfc7523
from gdi.oauth.client_auth.rfc6749 import ClientSecretBasic


def authentication_of(
    secret_file: Path | None, key_file: Path | None, settings: tuple[str, str]
) -> ClientAuthentication | None:
    """private_key_jwt where there is a key, client_secret_basic where there is a secret, else None. `settings`: the
    names of both. SettingsError where the file is not fit; read anew at each call of the provider.
    """
    if key_file is not None:
        try:
            rfc7523.load(read_secret(key_file, settings[1]))
        except ValueError as error:
            raise SettingsError(f"{settings[1]}: {key_file}: {error}") from None
        return rfc7523.PrivateKeyJwt(lambda: read_secret(key_file, settings[1]))
    if secret_file is not None:
        read_secret(secret_file, settings[0])
        return ClientSecretBasic(lambda: read_secret_text(secret_file, settings[0]))
    return None
