"""What the adapter and remote_runner.py lean on outside Snakemake's stable interface is still there: fails loudly,
naming what a new Snakemake changed.
"""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Any

import pytest
import snakemake.api  # first: Snakemake's modules import each other in a circle
import snakemake.cli
import snakemake.workflow
from snakemake.benchmark import BenchmarkRecord
from snakemake.common.tbdstring import TBDString
from snakemake.dag import DAG
from snakemake.executors.local import Executor as LocalExecutor
from snakemake.io import _IOFile
from snakemake.jobs import GroupJob, Job
from snakemake.persistence import PersistenceBase
from snakemake.rules import Rule
from snakemake.scheduling.job_scheduler import JobScheduler
from snakemake.settings import types as settings
from snakemake.shell import shell
from snakemake.sourcecache import SourceCache
from snakemake.storage import StorageRegistry
from snakemake_interface_common.plugin_registry import PluginRegistryBase
from snakemake_interface_executor_plugins.executors.real import RealExecutor
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry
from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry
from snakemake_interface_storage_plugins.registry import StoragePluginRegistry
from snakemake_interface_storage_plugins.storage_object import StorageObjectBase
from snakemake_interface_storage_plugins.storage_provider import StorageProviderBase

from snakemake_tes_auth.tasks import direct
from snakemake_tes_auth.tasks.remote_runner import HEAVY
from snakemake_tes_auth.workflow import adapter

HINT = "look at snakemake_tes_auth/workflow/adapter.py and remote_runner.py before raising the pinned version"

ATTRIBUTES: tuple[tuple[Any, str], ...] = (
    (
        Job,
        (
            "shellcmd container_img_url is_norun unique_input wildcards wildcards_dict restart_times attempt is_group"
            " jobid resources benchmark benchmark_repeats conda_env_spec env_modules format_wildcards get_target_spec"
            " input is_wrapper is_local log output rule rules threads dag params"
        ),
    ),
    (GroupJob, "attempt dag get_target_spec is_group jobid resources rules threads toposorted __iter__"),
    (DAG, "jobs needrun dependencies get_unneeded_temp_files reason needrun_jobs"),
    (Rule, "name conda_env input output log benchmark"),
    (
        snakemake.workflow.Workflow,
        "rules main_snakefile included envvars storage_registry sourcecache storage_provider_settings",
    ),
    (_IOFile, "flags is_storage storage_object"),
    (SourceCache, "get_path runtime_cache_path"),
    (StorageRegistry, "default_storage_provider register_storage infer_provider"),
    (shell, "_get_process_prefix get_executable"),
    (RealExecutor, "get_python_executable format_job_exec get_job_args"),
    (LocalExecutor, "spawn_job run_single_job get_python_executable"),
    (JobScheduler, "update_input_sizes"),
    (PersistenceBase, "incomplete"),
    (PluginRegistryBase, "collect_plugins register_plugin module_prefix get_registered_plugins"),
)
SETTINGS = (
    (
        settings.StorageSettings,
        "default_storage_provider default_storage_prefix local_storage_prefix unneeded_temp_files",
    ),
    (settings.DAGSettings, "target_jobs"),
    (settings.DeploymentSettings, "deployment_method"),
    (settings.ResourceSettings, "overwrite_scatter max_threads"),
    (settings.ExecutionSettings, "latency_wait shadow_prefix"),
    (settings.OutputSettings, "benchmark_extended"),
    (settings.WorkflowSettings, "wrapper_prefix"),
    (settings.RemoteExecutionSettings, "container_image preemptible_rules"),
)


def test_snakemake_is_the_version_that_the_adapter_was_checked_against() -> None:
    assert snakemake.__version__ == "9.27.1", HINT


@pytest.mark.parametrize(("owner", "names"), ATTRIBUTES, ids=lambda v: getattr(v, "__name__", None))
def test_the_places_that_the_adapter_reads_are_there(owner: Any, names: str) -> None:
    gone = [name for name in names.split() if not hasattr(owner, name)]
    assert not gone, f"{owner.__name__} has no {', '.join(gone)} any more: {HINT}"


@pytest.mark.parametrize(("owner", "names"), SETTINGS, ids=lambda v: getattr(v, "__name__", None))
def test_the_settings_that_the_adapter_reads_are_there(owner: Any, names: str) -> None:
    gone = set(names.split()) - {f.name for f in fields(owner)}
    assert not gone, f"{owner.__name__} has no {', '.join(sorted(gone))} any more: {HINT}"
    assert hasattr(settings.ResourceSettings(), "_parsed_overwrite_threads") and hasattr(
        settings.ResourceSettings(), "_parsed_overwrite_resources"
    )
    assert hasattr(settings.ResourceSettings(), "_parsed_default_resources") and hasattr(
        settings.ConfigSettings(), "overwrite_config"
    ), HINT


def test_what_is_only_set_on_objects_is_still_set() -> None:
    for function, words in (
        (snakemake.workflow.Workflow.execute, ("ExecMode.REMOTE", "self.scheduler = JobScheduler(")),
        (JobScheduler.__init__, ("_input_sizes",)),
        (Job.__init__, ("self.pipe_or_service_output",)),
        (Rule.__init__, ("self.script", "self.notebook", "self.basedir", "self.shellcmd", "self.wrapper")),
        (snakemake.workflow.Workflow.__post_init__, ("self.configfiles",)),
        (DAG.check_incomplete, ("incomplete",)),
        (shell.__new__, ("cls._process_suffix", *direct.THREAD_VARIABLES)),
        (StorageProviderBase.__init__, ("self.local_prefix",)),
        (StorageObjectBase.__init__, ("self.query", "self.provider")),
        (RealExecutor.format_job_exec, ("get_python_executable()", '"-m snakemake"')),
        (
            RealExecutor.get_job_args,
            (
                "--target-jobs",
                "--allowed-rules",
                "--local-groupid",
                "--force-use-threads",
                "--unneeded-temp-files",
                "--attempt",
            ),
        ),
        (snakemake.cli.args_to_api, ("DAGSettings(", "StorageSettings(")),
    ):
        source = inspect.getsource(function)
        for word in words:
            assert word in source, f"{function.__qualname__} has no {word} any more: {HINT}"
    assert str(TBDString()) == adapter.LATER and shell._process_suffix == "", HINT


def test_the_arguments_for_snakemake_in_a_task_are_all_known_to_it() -> None:
    source = inspect.getsource(adapter._arguments)
    parser = snakemake.cli.get_argument_parser()
    known = set(parser._option_string_actions)
    wanted = {
        word.strip("\"',()[]") for word in source.replace("(", " ").split() if word.strip("\"',()[]").startswith("--")
    }
    assert len(wanted) > 25 and not wanted - known, f"Snakemake does not know {sorted(wanted - known)} any more: {HINT}"


def test_snakemake_starts_without_what_a_task_does_not_need() -> None:
    """remote_runner.py leaves these out while it imports Snakemake; where they are imported elsewhere, it would fall
    back to the slow way.
    """
    import snakemake.persistence as persistence

    source = inspect.getsource(persistence)
    assert "from sqlalchemy import Column, JSON\nfrom sqlmodel import SQLModel, Field\n" in source, HINT
    assert set(HEAVY) >= {"sqlalchemy", "sqlmodel", "snakemake.persistence.db"}


def test_benchmarks_have_the_columns_that_a_plain_task_writes() -> None:
    assert BenchmarkRecord.get_header() == [
        "s",
        "h:m:s",
        "max_rss",
        "max_vms",
        "max_uss",
        "max_pss",
        "io_in",
        "io_out",
        "mean_load",
        "cpu_time",
    ], HINT
    assert "\\t".join(BenchmarkRecord.get_header()) in direct._BENCHMARK


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
