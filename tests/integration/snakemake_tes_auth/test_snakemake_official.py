"""The suites that Snakemake has for its plugins: snakemake.common.tests, snakemake_interface_storage_plugins.tests and
that of logger plugins.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import snakemake.common.tests
from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_common.plugin_registry.plugin import TaggedSettings
from snakemake_interface_logger_plugins.tests import TestLogHandlerBase
from snakemake_interface_storage_plugins.tests import TestStorageBase
from snakemake_storage_plugin_s3 import StorageProviderSettings as S3Settings

from snakemake_executor_plugin_tes_auth import ExecutorSettings
from snakemake_logger_plugin_airflow import LogHandler, LogHandlerSettings
from snakemake_storage_plugin_sda import StorageProvider, StorageProviderSettings
from tests.support.archive import TOKEN, Archive, archive  # noqa: F401
from tests.support.bare_rig import IMAGE, Bare, bare  # noqa: F401

pytestmark = pytest.mark.long


class TestExecutor(snakemake.common.tests.TestWorkflowsBase):
    """The official workflows, groups included, on the TES with its S3."""

    __test__ = True

    @pytest.fixture(autouse=True)
    def _place(self, bare: Bare) -> None:
        self.bare, self.prefix = bare, bare.prefix()

    def get_executor(self) -> str:
        return "tes-auth"

    def get_executor_settings(self) -> ExecutorSettings:
        return ExecutorSettings(url=self.bare.tes.url, user="gateway", password_file=self.bare.password, image=IMAGE)

    def get_assume_shared_fs(self) -> bool:
        return False

    def get_default_storage_provider(self) -> str:
        return "s3"

    def get_default_storage_prefix(self) -> str:
        return self.prefix

    def get_default_storage_provider_settings(self) -> dict[str, TaggedSettings]:
        tagged = TaggedSettings()
        tagged.register_settings(
            S3Settings(
                endpoint_url=self.bare.weed.endpoint, access_key=self.bare.weed.access, secret_key=self.bare.weed.secret
            )
        )
        return {"s3": tagged}

    def cleanup_test(self) -> None:
        assert "test3.out" in self.bare.files(self.prefix)


class TestSda(TestStorageBase):
    """Read-only, and without contents: where the suite wants to read, the refusal is what is tested."""

    __test__ = True
    retrieve_only = True

    @pytest.fixture(autouse=True)
    def _place(self, archive: Archive) -> None:
        self.archive = archive

    def get_storage_provider_cls(self) -> type[StorageProvider]:
        return StorageProvider

    def get_storage_provider_settings(self) -> StorageProviderSettings:
        return StorageProviderSettings(url=self.archive.url, token=TOKEN)

    def get_query(self, tmp_path: Path) -> str:
        return "sda://DS1/a b.txt.c4gh"

    def get_query_not_existing(self, tmp_path: Path) -> str:
        return "sda://DS1/none.txt.c4gh"

    def _get_obj(self, tmp_path: Path, query: str) -> Any:
        found = super()._get_obj(tmp_path, query)

        def refused() -> None:
            with pytest.raises(WorkflowError, match="contents stay"):
                type(found).retrieve_object(found)
            found.local_path().touch()

        found.retrieve_object = refused
        return found

    def test_one_listing_for_a_dataset_however_many_files_are_asked_for(self, tmp_path: Path) -> None:
        provider = self._get_provider(tmp_path)
        found = [provider.object(f"sda://DS1/{i}.c4gh").exists() for i in range(20)]
        assert not any(found) and provider.object("sda://DS1/a b.txt.c4gh").size() == 5
        assert self.archive.asked == ["/metadata/datasets/DS1/files"]

    def test_a_dataset_that_is_not_granted_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(WorkflowError, match=r"no access to dataset OTHER.*apply for access"):
            self._get_provider(tmp_path).object("sda://OTHER/x.c4gh").exists()

    def test_a_token_that_is_refused_is_told_without_it(self, tmp_path: Path) -> None:
        provider = StorageProvider(
            Path(tmp_path), None, settings=StorageProviderSettings(url=self.archive.url, token="other-4711")
        )
        with pytest.raises(WorkflowError, match="fresh one") as error:
            provider.object("sda://DS1/x.c4gh").exists()
        assert "other-4711" not in str(error.value) and TOKEN not in repr(self.get_storage_provider_settings())

    def test_htsget_is_taken_as_given_and_reaches_the_task_untouched(self, tmp_path: Path) -> None:
        found = self._get_provider(tmp_path).object("htsget://h.example.org:8080/reads/NA1?referenceName=1&start=1")
        assert (
            found.exists()
            and found.size() == 0
            and str(found.query).endswith("?referenceName=1&start=1")
            and not self.archive.asked
        )

    def test_without_a_gateway_a_drs_id_is_refused_with_what_to_write(self, tmp_path: Path) -> None:
        with pytest.raises(WorkflowError, match=r"drs://drs\.archive\.example/1: .*sda://DATASET/path"):
            self._get_provider(tmp_path).object("drs://drs.archive.example/1").exists()
        assert not self.archive.asked

    def test_a_token_on_the_command_line_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.argv", ["snakemake", f"--storage-sda-token={TOKEN}"])
        with pytest.raises(WorkflowError, match="command line"):
            self._get_provider(tmp_path).object("sda://DS1/x.c4gh").exists()
        assert not self.archive.asked

    def test_without_an_archive_it_says_what_to_give(self, tmp_path: Path) -> None:
        with pytest.raises(WorkflowError, match="--storage-sda-url"):
            StorageProvider(Path(tmp_path), None, settings=StorageProviderSettings()).object(
                "sda://DS1/x.c4gh"
            ).exists()


class TestLogger(TestLogHandlerBase):
    """The official suite's events, into a file."""

    __test__ = True

    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> None:
        self.file = tmp_path / "events.jsonl"

    def get_log_handler_cls(self) -> type[LogHandler]:
        return LogHandler

    def get_log_handler_settings(self) -> LogHandlerSettings:
        return LogHandlerSettings(file=str(self.file))
