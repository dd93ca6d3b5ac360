"""What the adapter leans on outside Snakemake's stable interface is still there: fails loudly where a new Snakemake changed it."""

from __future__ import annotations

import inspect

import snakemake.api  # first: Snakemake's modules import each other in a circle
import snakemake.workflow
from snakemake.dag import DAG
from snakemake.jobs import Job
from snakemake.rules import Rule
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry
from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry
from snakemake_interface_storage_plugins.registry import StoragePluginRegistry

from snakemake_tes_auth.jobview import JobFile, JobView

HINT = "look at snakemake_tes_auth/adapter.py before raising the pinned version"


def test_snakemake_is_the_version_that_the_adapter_was_checked_against() -> None:
    assert snakemake.__version__ == "9.27.1", HINT


def test_the_places_that_the_adapter_reads_are_there() -> None:
    for owner, names in (
        (Job, ("shellcmd", "container_img_url", "is_norun", "unique_input", "wildcards_dict", "restart_times", "attempt", "is_group", "jobid", "resources")),
        (DAG, ("jobs", "needrun")),
        (Rule, ("name",)),
        (snakemake.workflow.Workflow, ("rules", "main_snakefile")),
    ):
        for name in names:
            assert hasattr(owner, name), f"{owner.__name__}.{name} is gone: {HINT}"


def test_the_polling_thread_still_starts_before_post_init() -> None:
    source = inspect.getsource(RemoteExecutor.__init__)
    assert source.index("wait_thread.start()") < source.index("__post_init__()"), HINT


def test_snakemake_finds_the_plugins_by_their_names() -> None:
    executors, storages, loggers = ExecutorPluginRegistry(), StoragePluginRegistry(), LoggerPluginRegistry()
    for registry in (executors, storages, loggers):
        registry.collect_plugins()
    common = executors.get_plugin("tes-auth").common_settings
    # Both would put values into commands or install software for each job.
    assert not common.pass_envvar_declarations_to_cmd and not common.auto_deploy_default_storage_provider
    assert storages.get_plugin("sda").is_read_write() and loggers.get_plugin("airflow").log_handler


def test_the_adapters_views_hold_plain_values_only() -> None:
    assert {f for f in JobFile.__dataclass_fields__} == {"local", "query", "directory", "touch"}
    assert "job" not in JobView.__dataclass_fields__
