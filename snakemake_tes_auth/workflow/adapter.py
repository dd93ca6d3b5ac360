"""Every place that touches Snakemake outside its stable plugin interface, checked against 9.27.1; beside it
shell_command.py (a rule's own frame), checkpoint_folders.py, and remote_runner.py, which runs in a task.

tests/unit/test_snakemake_adapter.py fails loudly where another Snakemake changed one of them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from snakemake_tes_auth.workflow import typed
from snakemake_tes_auth.workflow.jobview import JobFile, JobView
from snakemake_tes_auth.workflow.shell_command import LATER, UnknownCommand, shell_command

DROPPED_RESOURCES = ("_cores", "_nodes", "tmpdir")
MAX_SPANS = 20
CREDENTIALS = (  # variables that name files
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CONFIG_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "BOTO_CONFIG",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "KUBECONFIG",
    "NETRC",
)
# As snakemake.shell sets them for each command.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "GOTO_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


# --- jobs ---------------------------------------------------------------------------------------


def view(job: Any) -> JobView:
    """Reads a job. `job.rule.shellcmd` can be formatted and `job.container_img_url` is complete when a job is handed to
    the executor.
    """
    if job.is_group():
        return _group(job)
    rule = job.rule
    made = _made_as_directories(job)
    by_rules = {f for files in job.dag.dependencies[job].values() for f in files}
    unknown, shell = "", None
    try:
        shell = _shell(job)
    except UnknownCommand as error:
        unknown = str(error)
    benchmark = job.benchmark
    return JobView(
        jobid=int(job.jobid),
        rule=str(rule.name),
        wildcards={str(k): str(v) for k, v in job.wildcards_dict.items()},
        attempt=int(job.attempt),
        threads=int(job.threads),
        resources=_resources(job),
        inputs=[_file(f, f in made or (f not in by_rules and _stored_folder(f))) for f in job.unique_input],
        outputs=[_file(f, wildcards=job.wildcards) for f in job.output],
        logs=[_file(f) for f in job.log],
        shell=shell,
        image=_plain_image(job.container_img_url),
        why_not_direct=unknown or _why_not_direct(job, shell),
        benchmark=None if benchmark is None else _file(benchmark),
        environment=environment(job.dag.workflow),
        problem=(
            "update() of a directory() is not possible: a task would get all of it and store all of it; name its files"
            if any(_has(f, "update") and _has(f, "directory") for f in job.output)
            else ""
        ),
    )


def named(job: Any) -> JobView:
    """A job that may still change, as far as its name and its key go: nothing of it is evaluated."""
    wildcards = {str(k): str(v) for k, v in job.wildcards_dict.items()}
    return JobView(
        int(job.jobid),
        str(job.rule.name),
        wildcards,
        int(job.attempt),
        1,
        {},
        [],
        [_file(f) for f in job.output],
        [],
        None,
        None,
    )


def _group(group: Any) -> JobView:
    members = [view(job) for job in group]
    made = {f.local for m in members for f in m.outputs}
    inner = {str(f) for f in group.dag.get_unneeded_temp_files(group)} | {
        str(f) for j in group for f in j.output if _has(f, *_NEVER_STORED)
    }
    reasons = [f"rule {m.rule}: {m.why_not_direct}" for m in members if m.why_not_direct]
    if len({m.image for m in members}) > 1:
        reasons.append("its rules have different containers")
    inputs = {f.local: f for m in members for f in m.inputs if f.local not in made}
    return JobView(
        jobid=min(m.jobid for m in members),  # a group's own is a UUID
        rule="+".join(sorted({m.rule for m in members}))[:200],
        wildcards={},
        attempt=int(group.attempt),
        threads=int(group.threads),
        resources=_resources(group),
        inputs=list(inputs.values()),
        outputs=[f for m in members for f in m.outputs if f.local not in inner],
        logs=[f for m in members for f in m.logs],
        shell=None,
        image=members[0].image,
        group=True,
        why_not_direct=reasons[0] if reasons else "",
        members=members,
        inner=frozenset(inner),
        environment=environment(group.dag.workflow),
        problem=next((m.problem for m in members if m.problem), "")
        or (
            "update() is not possible within a group; give its rule no group"
            if any(f.updated for m in members for f in m.outputs)
            else ""
        ),
    )


_NEVER_STORED = ("pipe", "service", "nodelocal")


def _why_not_direct(job: Any, shell: str | None) -> str:
    """Empty where job's command alone, in its container, does all that Snakemake would do."""
    methods = {str(m.item_to_choice()) for m in job.dag.workflow.deployment_settings.deployment_method}
    checks = (
        ("it has no `shell:`", shell is None),
        ("it uses a conda environment (--sdm conda)", "conda" in methods and job.conda_env_spec is not None),
        ("it uses environment modules (--sdm env-modules)", "env-modules" in methods and bool(job.env_modules)),
        ("its command depends on values that are known only where it runs", LATER in (shell or "")),
        ("it uses another shell than bash", _shell_name(job) != "bash"),
        ("its shadow directory lies elsewhere (--shadow-prefix)", _shadowed_elsewhere(job)),
        ("its shadow directory has copies of its inputs, which it may change", _shadowed_by_copies(job)),
        ("it uses pipe() or service()", _flagged(job, "pipe", "service") or _reads_pipes(job)),
        ("its benchmark is repeated", (job.benchmark_repeats or 1) > 1),
        ("its benchmark is not a plain table", job.benchmark is not None and _long_benchmark(job)),
    )
    return next((reason for reason, holds in checks if holds), "")


def _shadowed_elsewhere(job: Any) -> bool:
    return bool(job.rule.shadow_depth and job.dag.workflow.execution_settings.shadow_prefix)


def _shadowed_by_copies(job: Any) -> bool:
    """Inputs are mounts, which no task can change. A rule's own image counts more."""
    return job.rule.shadow_depth == "copy-minimal" and not job.container_img_url


def _reads_pipes(job: Any) -> bool:
    return any(
        not maker.pipe_or_service_output.isdisjoint(files)
        for maker, files in job.dag.dependencies[job].items()
        if maker.pipe_or_service_output
    )


def _long_benchmark(job: Any) -> bool:
    return str(job.benchmark).endswith(".jsonl") or bool(job.dag.workflow.output_settings.benchmark_extended)


def _shell(job: Any) -> str | None:
    """The command with the prefix and suffix that snakemake.shell puts around it. UnknownCommand where it is known in
    the task only.
    """
    if job.rule.shellcmd is None:
        return None
    from snakemake.shell import shell  # late: Snakemake's modules import each other in a circle

    command = shell_command(job) or ""
    return " ".join((shell._get_process_prefix(_shell_program(job)), command, shell._process_suffix)).strip()


def _shell_program(job: Any) -> str:
    from snakemake.shell import shell

    return str(job.resources.get("shell_exec") or shell.get_executable() or "")


def _shell_name(job: Any) -> str:
    return os.path.basename(_shell_program(job))  # noqa: PTH119


def _resources(job: Any) -> dict[str, int | float | str]:
    found = {
        str(k): v for k, v in job.resources.items() if k not in DROPPED_RESOURCES and isinstance(v, int | float | str)
    }
    if not job.is_group() and job.dag.workflow.remote_execution_settings.preemptible_rules.is_preemptible(
        job.rule.name
    ):
        found["preemptible"] = 1
    return {k: v for k, v in found.items() if v != LATER}


def _plain_image(image: Any) -> str | None:
    """A container as TES names it: Snakemake's `docker://` prefix is its own."""
    return str(image).removeprefix("docker://") if image else None


def _made_as_directories(job: Any) -> set[Any]:
    """The inputs that another job makes as directories: `directory()` stands at the output only. Where that job does
    not run, the storage has the last word: `directory("parts/{s}")` fits the file `parts/a/1.txt` too.
    """
    return {
        f
        for maker, files in job.dag.dependencies[job].items()
        for f in maker.output
        if f in files and _has(f, "directory") and (job.dag.needrun(maker) or not _stored_file(f))
    }


def _stored_file(f: Any) -> bool:
    """Whether its storage says that this is no folder."""
    return callable(getattr(f.storage_object, "is_dir", None)) and not _stored_folder(f) if f.is_storage else False


def _stored_folder(f: Any) -> bool:
    """Whether an input that no rule makes is a folder in the storage: asked of its own plugin, where that can say."""
    ask = getattr(f.storage_object, "is_dir", None) if f.is_storage else None
    return bool(ask()) if callable(ask) else False


def _has(f: Any, *flags: str) -> bool:
    return any(f.flags.get(flag) for flag in flags)


def _flagged(job: Any, *flags: str) -> bool:
    return any(_has(f, *flags) for f in job.output)


def _file(f: Any, directory: bool = False, wildcards: Any = None) -> JobFile:
    flags = f.flags
    query = str(f.storage_object.query) if f.is_storage else ""
    ensure = flags.get("ensure") or {}
    checksum = ensure.get("checksum")
    if callable(checksum):
        checksum = checksum(wildcards) if wildcards is not None else None
    return JobFile(
        str(f),
        query,
        directory=directory or bool(flags.get("directory")),
        touch=bool(flags.get("touch")),
        non_empty=bool(ensure.get("non_empty")),
        checksum=f"{ensure['checksum_algorithm']}:{checksum}" if checksum else "",
        updated=_has(f, "update") and f.is_storage and bool(f.storage_object.exists()),
    )


def retries_left(job: Any) -> bool:
    """Whether Snakemake will run this job again after an error now."""
    return bool(job.restart_times > job.attempt - 1)


# --- the workflow -------------------------------------------------------------------------------


def jobs(dag: Any) -> Iterable[Any]:
    """Every job of the DAG, whether it has to run or not."""
    return list(dag.jobs)


def does_nothing(job: Any) -> bool:
    """A job that only names targets, like the rule `all`."""
    return bool(job.is_norun)


def has_to_run(dag: Any, job: Any) -> bool:
    return bool(dag.needrun(job))


def needed_jobs(dag: Any) -> list[Any]:
    """The jobs that have to run and are not the main process's own."""
    return [job for job in dag.needrun_jobs() if not job.is_local]


def image_and_outputs(job: Any) -> tuple[str, str | None, list[str]]:
    """The rule, the image of a `shell:` rule, and the queries of what the job makes and reads; nothing is evaluated."""
    image = _plain_image(job.container_img_url) if job.rule.shellcmd is not None else None
    files = (*job.output, *job.log, *job.input)
    return str(job.rule.name), image, [str(f.storage_object.query) for f in files if f.is_storage]


def rule_order(workflow: Any) -> list[str]:
    """The rules' names in the order in which the workflow declares them."""
    return [str(rule.name) for rule in workflow.rules]


def workflow_folder(workflow: Any) -> Path:
    """Without the `..` of the command line, by which nothing would lie in it."""
    given = Path(str(workflow.main_snakefile)).absolute().parent
    plain = Path(os.path.normpath(given))
    return plain if plain.is_dir() and plain.samefile(given) else given.resolve()


def container_image(workflow: Any) -> str:
    """`--container-image`: by default the published image of this very version of Snakemake."""
    return str(workflow.remote_execution_settings.container_image)


def sources(workflow: Any) -> set[Path]:
    """The files that Snakemake itself reads when it parses the workflow and runs any of its rules: Snakefiles,
    configuration, scripts, environments.

    `dag.get_sources` asks git besides, which may not be there, and takes whatever the repository holds.
    """
    found = {_local(f) for f in workflow.included}
    found |= {Path(f).absolute() for f in workflow.configfiles}
    for rule in workflow.rules:
        for name in (rule.script, rule.notebook):
            if name and "{" not in str(name):
                found.add(_beside(rule, str(name)))
        if rule.conda_env and not callable(rule.conda_env) and "{" not in str(rule.conda_env):
            found.add(_beside(rule, str(rule.conda_env)))
    return {f for f in found if f is not None and f.is_file()}


def cached_sources(job: Any) -> set[Path]:
    """What Snakemake's source cache holds for this process (`workflow.source_path`), and the job's wrapper: at the same
    paths, a task needs no network.
    """
    from snakemake import wrapper

    workflow = job.dag.workflow
    cache, prefix = workflow.sourcecache, workflow.workflow_settings.wrapper_prefix
    found = set()
    for member in job if job.is_group() else (job,):
        script = wrapper.get_script(member.rule.wrapper, cache, prefix) if member.is_wrapper else None
        if script is not None and not isinstance(
            script, dict
        ):  # a dict tells why none was found, which Snakemake itself says best
            found.add(Path(cache.get_path(script)))
    return found | runtime_files(workflow)


def runtime_files(workflow: Any) -> set[Path]:
    """What `workflow.source_path` made for this process."""
    return {f for f in runtime_cache(workflow).rglob("*") if f.is_file()}


def runtime_cache(workflow: Any) -> Path:
    """Where `workflow.source_path` puts files: another folder in each process."""
    return Path(workflow.sourcecache.runtime_cache_path)


def source_cache(workflow: Any) -> Path:
    return Path(workflow.sourcecache.cache_path)


def _local(source: Any) -> Path | None:
    path = source.get_path_or_uri(secret_free=True)
    return Path(path.removeprefix("file://")).absolute() if "://" not in path or path.startswith("file://") else None


def _beside(rule: Any, name: str) -> Path | None:
    # the name may be a URL
    return Path(name).absolute() if os.path.isabs(name) else _local(rule.basedir.join(name))  # noqa: PTH117


def environment(workflow: Any) -> dict[str, str]:
    """The variables of `--envvars`, which go into each task."""
    names = workflow.remote_execution_settings.envvars or ()
    return {str(name): os.environ[name] for name in sorted(names) if name in os.environ}


def withheld_variables(workflow: Any) -> list[str]:
    """What the workflow declares by `envvars:` and `--envvars` does not name."""
    return sorted(set(workflow.envvars) - set(workflow.remote_execution_settings.envvars or ()))


def keeps_scripts(workflow: Any) -> bool:
    """Whether `--skip-script-cleanup` is given."""
    return not workflow.execution_settings.cleanup_scripts


def local_rules(dag: Any) -> list[str]:
    """The rules whose jobs would read or write stored files where Snakemake itself runs: in `localrules`, or with
    nothing but `touch()` outputs.
    """
    jobs = (j for j in dag.needrun_jobs() if j.is_local and (j.output or not j.is_norun))
    return sorted({str(j.rule.name) for j in jobs if any(f.is_storage for f in (*j.input, *j.output))})


def run_here(workflow: Any) -> list[str]:
    """Makes local rules of those that have a command, no container and no file to store, and names them: a task would
    keep nothing of what they make, the local executor leaves it in the working directory.
    """
    names = {
        str(rule.name)
        for rule in workflow.rules
        if not (rule.norun or rule.output or rule.log or rule.benchmark or rule.container_img or rule.group)
    }
    workflow._localrules.update(names)
    return sorted(names)


def asking_rule() -> str:
    """The rule whose input function opens the file that is just being retrieved; "" where it is none. Snakemake
    retrieves it while it handles the miss.
    """
    error = sys.exc_info()[1]
    while error is not None and type(error).__name__ != "InputOpenException":
        error = error.__context__
    return str(getattr(getattr(error, "rule", None), "name", ""))


# --- Snakemake inside a task --------------------------------------------------------------------


def inside(job: Any, cores: int) -> dict[str, Any]:
    """What remote_runner.py needs to run this very job or group: Snakemake's arguments, as
    `RealExecutor.format_job_exec` gives them, and what they cannot carry.
    """
    dag, workflow = job.dag, job.dag.workflow
    settings = workflow.storage_settings
    return {
        "snakemake": _version(),
        "argv": _arguments(job, cores),
        "targets": [[spec.rulename, dict(spec.wildcards_dict)] for spec in job.get_target_spec()],
        "config": typed.dump(workflow.config_settings.overwrite_config),
        "configfiles": [str(f) for f in workflow.config_settings.configfiles],
        "replace_config": bool(workflow.config_settings.replace_workflow_config),
        "logs": [str(f) for member in (job if job.is_group() else (job,)) for f in member.log],
        "unneeded": sorted(str(f) for f in dag.get_unneeded_temp_files(job)),
        "storage": storage_names(job),
        "cache": str(workflow.sourcecache.cache_path),
        "default_storage": [settings.default_storage_provider, settings.default_storage_prefix],
    }


def _version() -> str:
    import snakemake

    return str(snakemake.__version__)


def _arguments(job: Any, cores: int) -> list[str]:
    workflow = job.dag.workflow
    given, execution, deployment = workflow.resource_settings, workflow.execution_settings, workflow.deployment_settings
    found = [
        *("--snakefile", str(Path(str(workflow.main_snakefile)).absolute()), "--directory", str(Path.cwd())),
        *(
            "--mode",
            "remote",
            "--executor",
            "local",
            "--cores",
            str(cores),
            "--attempt",
            str(job.attempt),
            "--shared-fs-usage",
            "none",
        ),
        *(
            "--force",
            "--target-files-omit-workdir-adjustment",
            "--keep-storage-local-copies",
            "--max-inventory-time",
            "0",
            "--retries",
            "0",
        ),
        *("--nocolor", "--no-hooks", "--nolock", "--ignore-incomplete", "--drop-metadata"),
        *("--rerun-triggers", "mtime"),
        *("--latency-wait", str(min(2, execution.latency_wait)), "--scheduler", "greedy"),
        *("--local-storage-prefix", str(workflow.storage_settings.local_storage_prefix)),
        *("--runtime-source-cache-path", str(workflow.sourcecache.runtime_cache_path)),
        *("--allowed-rules", *job.rules),
    ]
    found += ["--local-groupid", str(job.jobid)] if job.is_group() else ["--force-use-threads"]
    for flag, given_values in (
        ("--set-threads", [f"{rule}={value.raw}" for rule, value in given._parsed_overwrite_threads.items()]),
        (
            "--set-resources",
            [
                f"{rule}:{name}={v.raw}"
                for rule, values in given._parsed_overwrite_resources.items()
                for name, v in values.items()
            ],
        ),
        ("--default-resources", list(given._parsed_default_resources.args or [])),
        ("--set-scatter", [f"{name}={n}" for name, n in given.overwrite_scatter.items()]),
        (
            "--software-deployment-method",
            sorted(m.item_to_choice() for m in deployment.deployment_method if m.item_to_choice() == "conda"),
        ),
        ("--shadow-prefix", [str(execution.shadow_prefix)] if execution.shadow_prefix else []),
        (
            "--wrapper-prefix",
            [workflow.workflow_settings.wrapper_prefix] if workflow.workflow_settings.wrapper_prefix else [],
        ),
        ("--max-threads", [str(given.max_threads)] if given.max_threads else []),
    ):
        found += [flag, *given_values] if given_values else []
    return found + (["--benchmark-extended"] if workflow.output_settings.benchmark_extended else [])


def storage_names(job: Any) -> dict[str, Any]:
    """How each storage provider of this process names a query's local file, for the passive providers in the task:
    `{provider: {schemes, spans, pairs}}`.

    `spans` are pairs of beginnings: a query that begins with the one has a local name that begins with the other.
    `pairs` are queries that no span explains.
    """
    from snakemake_interface_storage_plugins.registry import StoragePluginRegistry

    registry = StoragePluginRegistry()
    names: dict[str, dict[str, str]] = {}
    for f in _storage_files(job):
        provider, query = f.storage_object.provider, str(f.storage_object.query)
        plugin = next(
            (n for n in registry.get_registered_plugins() if registry.get_plugin(n).storage_provider is type(provider)),
            None,
        )
        local = Path(f.storage_object.local_path())
        if plugin is not None and local.is_relative_to(provider.local_prefix):
            names.setdefault(plugin, {})[query] = local.relative_to(provider.local_prefix).as_posix()
    found = {}
    for plugin in registry.get_registered_plugins():
        pairs = names.get(plugin, {})
        examples = [str(e.query) for e in registry.get_plugin(plugin).storage_provider.example_queries()]
        spans = sorted({heads(q, local) for q, local in pairs.items()}, reverse=True)[:MAX_SPANS]
        odd = {q: local for q, local in pairs.items() if by_span(q, spans) != local}
        found[plugin] = {"schemes": sorted({scheme_of(q) for q in (*examples, *pairs)}), "spans": spans, "pairs": odd}
    return found


def heads(query: str, local: str) -> tuple[str, str]:
    """What is left of both in front of their common end."""
    n = next(
        (i for i, (a, b) in enumerate(zip(query[::-1], local[::-1], strict=False)) if a != b),
        min(len(query), len(local)),
    )
    return query[: len(query) - n], local[: len(local) - n]


def by_span(query: str, spans: list[tuple[str, str]]) -> str | None:
    return next((local + query[len(head) :] for head, local in spans if query.startswith(head)), None)


def _storage_files(job: Any) -> Iterator[Any]:
    """The job's own files, and the patterns of its rules, which Snakemake matches against them."""
    for member in job if job.is_group() else (job,):
        rule = member.rule
        own = (
            *member.input,
            *member.output,
            *member.log,
            *([member.benchmark] if member.benchmark is not None else []),
        )
        patterns = (*rule.input, *rule.output, *rule.log, *([rule.benchmark] if rule.benchmark else []))
        yield from (f for f in (*own, *patterns) if getattr(f, "is_storage", False))


def scheme_of(query: str) -> str:
    return query.partition("://")[0] if "://" in query else ""


# --- what an earlier process did, and what Snakemake need not ask -------------------------------


def only_unfinished(job: Any) -> bool:
    """Whether the job has to run only because outputs are missing or incomplete: what an earlier process finished may
    then stand for it.
    """
    settings = job.dag.workflow.dag_settings
    # --rerun-incomplete makes Snakemake force the jobs of incomplete files, and gives no other reason.
    forced = settings.forceall or settings.forcetargets or bool(settings.forcerun)
    reasons = [member.dag.reason(member) for member in (job if job.is_group() else (job,))]
    return not any((r.forced and forced) or r.is_provenance_triggered() or r.updated_input for r in reasons)


def newest_input(job: Any) -> float:
    """When the newest input of a job or group was stored, in epoch seconds; asks the storage (blocking)."""
    made = {str(o.query) for o in written(job)}
    members = list(job) if job.is_group() else [job]
    inputs = [f.storage_object for m in members for f in m.input if f.is_storage]
    return max((float(i.mtime()) for i in inputs if str(i.query) not in made and i.exists()), default=0.0)


def outputs_stand(job: Any, outputs_needed: set[str]) -> bool:
    """Whether all files with these queries are there and none is older than an input; asks the storage (blocking)."""
    forget_absence(job)
    members = list(job) if job.is_group() else [job]
    made = {str(f.storage_object.query): f.storage_object for m in members for f in m.output if f.is_storage}
    outputs = [made[query] for query in outputs_needed if query in made]
    inputs = [
        f.storage_object for m in members for f in m.input if f.is_storage and str(f.storage_object.query) not in made
    ]
    if not outputs or not all(o.exists() for o in outputs) or not all(i.exists() for i in inputs):
        return False
    return bool(max((i.mtime() for i in inputs), default=0.0) <= min(o.mtime() for o in outputs))


def store_log(job: Any, name: str, text: str) -> None:
    """Puts a log file of a failed job into the storage (blocking)."""
    for member in job if job.is_group() else (job,):
        for f in member.log:
            if str(f) == name and f.is_storage:
                path = Path(f.storage_object.local_path())
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
                f.storage_object.store_object()
                path.unlink(missing_ok=True)


def written(job: Any) -> list[Any]:
    """The storage objects of what a job or group writes."""
    members = list(job) if job.is_group() else [job]
    return [f.storage_object for m in members for f in (*m.output, *m.log) if f.is_storage]


def forget_absence(job: Any) -> None:
    """Before a finished job's files are looked for: what the storage said of them before is old."""
    for member in job if job.is_group() else (job,):
        for f in (*member.output, *member.log, *([member.benchmark] if member.benchmark is not None else [])):
            if not f.is_storage:
                continue
            if callable(forget := getattr(f.storage_object, "forget_metadata", None)):
                forget()
            # The S3 plugin remembers for good that a directory was not there when it first asked.
            if getattr(f.storage_object, "_is_dir", None) is False:
                f.storage_object._is_dir = None


def ask_no_sizes(scheduler: Any, known: Callable[[Any], int | None]) -> None:
    """Snakemake's scheduler asks the storage for the size of every input of every ready job, each time anew, to prefer
    jobs with larger ones. It gets what is known without asking (`known`, of a storage object), else 0: the TES does the
    scheduling. A rule that computes with `input.size` still asks."""

    async def update_input_sizes(jobs: Iterable[Any]) -> None:
        sizes = scheduler._input_sizes
        for job in jobs:
            for f in job.input:
                if f not in sizes:
                    sizes[f] = (
                        (known(f.storage_object) or 0)
                        if f.is_storage
                        else (os.path.getsize(f) if os.path.isfile(f) else 0)  # noqa: PTH113, PTH202
                    )

    scheduler.update_input_sizes = update_input_sizes


# --- use without a gateway ----------------------------------------------------------------------


def identity(workflow: Any) -> str:
    """`sha256:…` of what makes two starts the same workflow: its Snakefile's name, its rules, and the configuration
    from the command line. Not the files' contents: what changed there shows in each task's hash.
    """
    rules = sorted(str(rule.name) for rule in workflow.rules)
    known = [Path(str(workflow.main_snakefile)).name, rules, typed.dump(workflow.config_settings.overwrite_config)]
    return "sha256:" + hashlib.sha256(repr(known).encode()).hexdigest()


def place(workflow: Any, prefix: str) -> str:
    """20 hex digits of storage prefix, machine and working directory, which Snakemake's lock gives to one Snakemake at
    a time; "" with --nolock.
    """
    if not workflow.execution_settings.lock:
        return ""
    return hashlib.sha256(f"{prefix}\0{socket.gethostname()}\0{Path.cwd()}".encode()).hexdigest()[:20]


def default_storage(workflow: Any) -> tuple[Any | None, str]:
    """The default storage provider's object and prefix; None and "" where there is none."""
    return workflow.storage_registry.default_storage_provider, str(
        workflow.storage_settings.default_storage_prefix or ""
    )


def credential_files(workflow: Any) -> frozenset[Path]:
    """The files that the settings of storage plugins and the clouds' own variables name: their clients open them while
    the workflow is read, and no task gets them.
    """
    tagged = (workflow.storage_provider_settings or {}).values()
    given = [v for each in tagged for settings in each for v in vars(settings).values() if isinstance(v, str | Path)]
    given += [name for variable in CREDENTIALS for name in os.environ.get(variable, "").split(os.pathsep)]
    found = set()
    for name in given:
        with contextlib.suppress(OSError, ValueError):  # a token itself may be no possible name of a file
            if Path(name).is_file():
                found |= {Path(name).absolute(), Path(name).resolve()}
    return frozenset(found)


def has_logger(workflow: Any, name: str) -> bool:
    """Whether Snakemake was given this logger plugin."""
    return name in (workflow.output_settings.log_handler_settings or {})
