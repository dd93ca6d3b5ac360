"""Snakemake's own tests (`tests/tests.py` of its source distribution) with their files in S3: run by the local executor
or as tasks of a TES.

A pytest plugin: `PYTHONPATH=tests/support/suites pytest -p snakemake_own FOLDER/tests/tests.py`. It imports nothing of
this project's tests: Snakemake's own package is called `tests` too. GDI_OWN_TESTS chooses `local` or
`tes`; GDI_OWN_WORLD is a JSON file with the bucket's and the TES's addresses (`snakemake_own_run.py` writes it).

A test that calls `run` with no executor and no storage of its own gets a prefix of its own in the bucket: what lies
beside its Snakefile is put there first, and what lies there afterwards is brought to where the test looks for it. All
other tests run as they are written.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

WORLD = "GDI_OWN_WORLD"
MODE = "GDI_OWN_TESTS"
TAKEN = ("executor", "cluster", "shellcmd", "no_tmpdir", "default_storage_provider", "shared_fs_usage", "archive")
NOT_EXECUTED = ("generate_unit_tests", "containerize", "cleanup_metadata", "conda_list_envs", "conda_create_envs")


class StoredRun:
    """`run` of Snakemake's tests/common.py with files in the bucket."""

    def __init__(self, common: Any, world: dict[str, str], mode: str) -> None:
        import boto3

        self._common, self._world, self._mode, self._plain = common, world, mode, common.run
        self._client = boto3.client(
            "s3",
            endpoint_url=world["endpoint"],
            aws_access_key_id=world["access"],
            aws_secret_access_key=world["secret"],
            region_name="us-east-1",
        )

    def run(self, path: Any, *positional: Any, **given: Any) -> Any:
        if positional or any(given.get(name) for name in (*TAKEN, *NOT_EXECUTED)):
            return self._plain(path, *positional, **given)
        prefix, cleanup = secrets.token_hex(6), given.pop("cleanup", True)
        folder = given.pop("tmpdir", None)
        if folder is None:
            with self._common.prepare_tmpdir(Path(path), cleanup=False) as made:
                folder = made
        self._upload(Path(folder), prefix)
        listed: Callable[..., list[str]] = self._common.get_expected_files

        def fetched_first(results: Any) -> list[str]:
            self._download(Path(folder), prefix)
            return listed(results)

        self._common.get_expected_files = fetched_first
        try:
            self._plain(path, tmpdir=folder, cleanup=False, **{**given, **self._stored(prefix)})
        finally:
            self._common.get_expected_files = listed
        self._download(Path(folder), prefix)
        if cleanup:
            shutil.rmtree(folder, ignore_errors=True)
            return None
        return Path(folder)

    def _stored(self, prefix: str) -> dict[str, Any]:
        from snakemake_interface_common.plugin_registry.plugin import TaggedSettings
        from snakemake_storage_plugin_s3 import StorageProviderSettings

        s3 = TaggedSettings()
        s3.register_settings(
            StorageProviderSettings(
                endpoint_url=self._world["endpoint"],
                access_key=self._world["access"],
                secret_key=self._world["secret"],
            )
        )
        found: dict[str, Any] = {
            "default_storage_provider": "s3",
            "default_storage_prefix": f"s3://{self._world['bucket']}/{prefix}",
            "storage_provider_settings": {"s3": s3},
            "shared_fs_usage": frozenset(),
        }
        if self._mode == "tes":
            from snakemake_tes_auth.settings import ExecutorSettings

            found |= {
                "executor": "tes-auth",
                "nodes": 3,
                "executor_settings": ExecutorSettings(
                    url=self._world["tes"],
                    user="gateway",
                    password_file=Path(self._world["password_file"]),
                    image=self._world["image"],
                ),
            }
        return found

    def _upload(self, folder: Path, prefix: str) -> None:
        for path in folder.rglob("*"):
            name = path.relative_to(folder)
            if path.is_file() and name.parts[0] not in ("expected-results", ".snakemake"):
                self._client.upload_file(str(path), self._world["bucket"], f"{prefix}/{name}")

    def _download(self, folder: Path, prefix: str) -> None:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._world["bucket"], Prefix=f"{prefix}/"
        )
        for entry in (e for page in pages for e in page.get("Contents", [])):
            name = str(entry["Key"]).removeprefix(f"{prefix}/")
            if not name.startswith(".gdi/"):
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                self._client.download_file(self._world["bucket"], entry["Key"], str(target))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """Some tests set variables and do not put them back where they fail: the next one is not to see them."""
    before = dict(os.environ)
    try:
        return (yield)
    finally:
        os.environ.clear()
        os.environ.update(before)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each collected module of Snakemake's gets the other `run`."""
    world = json.loads(Path(os.environ[WORLD]).read_text())
    for module in {item.module for item in items if isinstance(item, pytest.Function)}:
        common = __import__(f"{module.__package__}.common", fromlist=["run"])
        if not isinstance(getattr(common.run, "__self__", None), StoredRun):
            common.run = StoredRun(common, world, os.environ[MODE]).run
        module.run = common.run
