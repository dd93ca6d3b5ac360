"""A store by its settings: a folder's path, or `s3://BUCKET/PREFIX` with endpoint, region and a file of credentials."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Protocol

from gdi.kit.secret_files import read_secret
from gdi.kit.settings import SettingsError
from gdi.kit.web_url import secure_url
from gdi.result_store.folder import FolderStore
from gdi.result_store.model import ResultStore

_S3 = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])((?:/[A-Za-z0-9][A-Za-z0-9._-]{0,99}){0,5})/?")


class StoreSettings(Protocol):
    """What the settings of a process have that opens the store."""

    result_store: str | None
    result_store_endpoint: str | None
    result_store_region: str
    result_store_credentials_file: Path | None

    def variable(self, field: str) -> str: ...


def opened_by(settings: StoreSettings) -> ResultStore | None:
    """None where the settings name no store. SettingsError."""
    if settings.result_store is None:
        return None
    return opened(
        settings.result_store,
        endpoint=settings.result_store_endpoint,
        region=settings.result_store_region,
        credentials_file=settings.result_store_credentials_file,
        name=settings.variable("result_store"),
    )


def opened(
    location: str, *, endpoint: str | None, region: str, credentials_file: Path | None, name: str = "RESULT_STORE"
) -> ResultStore:
    """SettingsError naming the setting `name` (or the one beside it) and the mistake. Nothing is asked of the S3."""
    if not location.startswith("s3://"):
        if not Path(location).is_absolute():
            raise SettingsError(f"{name}: neither s3://BUCKET/PREFIX nor the whole path of a folder")
        return FolderStore(Path(location))
    found = _S3.fullmatch(location)
    if found is None:
        raise SettingsError(f"{name}: not s3://BUCKET or s3://BUCKET/PREFIX")
    if credentials_file is None:
        raise SettingsError(f"{name}_CREDENTIALS_FILE is not set: who opens an S3 has credentials of its own")
    try:
        where = None if endpoint is None else secure_url(endpoint)
    except ValueError as error:
        raise SettingsError(f"{name}_ENDPOINT: {error}") from None
    from gdi.result_store.s3 import S3Store  # boto3 costs 25 MB, which a folder does not need

    keys = credentials(credentials_file, f"{name}_CREDENTIALS_FILE")
    return S3Store(found[1], found[2], endpoint=where, region=region, credentials=keys)


def credentials(file: Path, name: str) -> tuple[str, str]:
    """(access key, secret key) of a JSON file {"access_key", "secret_key"} of mode 0600. SettingsError."""
    try:
        found = json.loads(read_secret(file, name))
        access, secret = found["access_key"], found["secret_key"]
        if not (isinstance(access, str) and isinstance(secret, str) and access and secret):
            raise ValueError
    except (ValueError, TypeError, KeyError):
        raise SettingsError(f'{name}: {file} is not JSON {{"access_key": …, "secret_key": …}}') from None
    return access, secret
