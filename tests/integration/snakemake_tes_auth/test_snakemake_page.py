"""docs/snakemake.md: each of its commands works as it is written, with the addresses and files of this machine in place
of the examples'.
"""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from snakemake_tes_auth.logger.logger import LogHandlerSettings
from snakemake_tes_auth.settings import ExecutorSettings
from snakemake_tes_auth.storage.storage import StorageProviderSettings
from tests.support.bare_rig import Bare, bare  # noqa: F401
from tests.support.snakemake_page import COMMANDS, PAGE, login, works  # noqa: F401

pytestmark = pytest.mark.long


def test_the_page_has_a_command_for_each_credential() -> None:
    for option in (
        "--tes-auth-token-file",
        "--tes-auth-issuer",
        "--tes-auth-token-url",
        "--tes-auth-user",
        "--storage-sda-url",
        "--default-storage-prefix",
    ):
        assert any(option in command for command in COMMANDS), option


def test_the_pages_table_has_every_setting_and_no_other() -> None:
    table = set(re.findall(r"`(--(?:tes-auth|storage-sda|logger-airflow)-[a-z-]+)`", PAGE.partition("## Settings")[2]))
    known = {f"--tes-auth-{f.name}" for f in fields(ExecutorSettings)} | {
        f"--storage-sda-{f.name}" for f in fields(StorageProviderSettings)
    }
    known |= {f"--logger-airflow-{f.name}" for f in fields(LogHandlerSettings)}
    assert table == {name.replace("_", "-") for name in known} - {"--storage-sda-max-requests-per-second"}


def test_the_pages_first_command_works_as_it_is_written(bare: Bare, login: str, tmp_path: Path) -> None:
    """The others: tests/system/test_snakemake_page.py."""
    works(COMMANDS[0], bare, login, tmp_path)
