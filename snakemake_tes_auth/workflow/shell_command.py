"""The command of a `shell:` rule as Snakemake's execution makes it: in the frame of the rule's own function, with its
module's globals. What Snakemake prints for a job (`job.shellcmd`) is formatted elsewhere and may differ.

Leans on Snakemake's inner names, checked against 9.27.1 (tests/unit/snakemake_tes_auth/test_snakemake_adapter.py).
"""

from __future__ import annotations

from types import FunctionType
from typing import Any

TASK_TMP = "/tmp"  # noqa: S108
LATER = "<TBD>"  # how Snakemake writes a value that is known only where the job runs


class UnknownCommand(Exception):
    """The rule's command is known only where its function runs: Snakemake has to run in the task."""


def shell_command(job: Any) -> str | None:
    """The formatted command without Snakemake's prefix and suffix; None where the rule has no `shell:`.

    UnknownCommand where the rule's function does more than call Snakemake's `shell` once. Errors of formatting are the
    workflow's own (NameError and the like).
    """
    from snakemake.shell import shell  # late: Snakemake's modules import each other in a circle

    rule = job.rule
    if rule.shellcmd is None:
        return None
    function = rule.run_func
    if not isinstance(function, FunctionType) or function.__globals__.get("shell") is not shell:
        raise UnknownCommand("its function does not call Snakemake's own shell()")
    found: list[str] = []
    # A number of this process says nothing in another one; a variable of the workflow by that name does.
    own = {name: function.__globals__[name] for name in ("jobid",) if name in function.__globals__}

    def capture(cmd: str, *args: Any, bench_record: Any = None, **kwargs: Any) -> None:
        from snakemake.utils import format

        found.append(format(cmd, *args, stepout=2, **{**own, **kwargs}))

    replaced = FunctionType(
        function.__code__,
        {**function.__globals__, "shell": capture},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    replaced(*_arguments(job))
    if len(found) != 1:
        raise UnknownCommand(f"its function calls shell() {len(found)} times")
    return found[0]


def _arguments(job: Any) -> tuple[Any, ...]:
    """As `snakemake.executors.local.run_wrapper` gives them to the rule's function."""
    workflow = job.dag.workflow
    repeats = 0 if job.benchmark is not None else None
    return (
        job.input._plainstrings(),
        job.output._plainstrings(),
        job.params,
        job.wildcards,
        job.threads,
        TaskResources(job.resources),
        job.log._plainstrings(),
        job.rule.name,
        None,  # conda_env
        None,  # container_img
        workflow.deployment_settings.apptainer_args,
        False,  # use_singularity
        None,  # env_modules
        None,  # bench_record
        job.jobid,
        True,  # is_shell
        repeats,
        workflow.execution_settings.cleanup_scripts,
        None,  # shadow_dir
        None,  # edit_notebook
        None,  # conda_base_path
        job.rule.basedir,
        workflow.sourcecache.cache_path,
        workflow.sourcecache.runtime_cache_path,
        (),  # runtime_paths
    )


class TaskResources:
    """A job's resources; a `tmpdir` that is known in the task only is the task's own temporary folder."""

    def __init__(self, resources: Any) -> None:
        self._resources = resources

    def _of(self, name: str, value: Any) -> Any:
        return TASK_TMP if name == "tmpdir" and str(value) == LATER else value

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._of(name, getattr(self._resources, name))

    def __getitem__(self, name: Any) -> Any:
        return self._of(name, self._resources[name])

    def get(self, name: str, default: Any = None) -> Any:
        return self._of(name, self._resources.get(name, default))

    def __iter__(self) -> Any:
        return iter(self._resources)

    def __str__(self) -> str:
        return str(self._resources)
