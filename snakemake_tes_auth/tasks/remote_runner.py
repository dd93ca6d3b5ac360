"""Runs in the task: Snakemake, once, for one job, with passive storage providers: the TES has brought the inputs and
will take the outputs.

Sent with the job as a file of its own, so that any image with this very version of Snakemake can run it: it imports
nothing of this project. `python3 remote_runner.py JOB.json`; as `python3 remote_runner.py JOB.json -m snakemake …`
Snakemake calls it again for a `run:` job within a group.
"""

from __future__ import annotations

import filecmp
import json
import os
import shutil
import sys
import tempfile
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

CACHE = ("snakemake", "snakemake", "source-cache")  # below XDG_CACHE_HOME
# A database for metadata that a task does not keep, and a solver for a schedule of one job: more than half of
# Snakemake's start.
HEAVY = ("sqlalchemy", "sqlmodel", "snakemake.persistence.db")
ABSENT = ("pulp",)  # may be missing, says Snakemake itself


def main(argv: list[str]) -> None:
    job = json.loads(Path(argv[1]).read_text())
    _link(job["links"])
    _copy(job["copies"])
    _tools(job["tools"])
    for folder in job["detours"]:
        os.makedirs(folder, exist_ok=True)  # noqa: PTH103 -- pathlib refuses a path that goes through `..`
    # Snakemake's cache is where the main process has it if something of it came with the job; else any writable place
    # will do.
    cache = Path(job["cache"])
    os.environ["XDG_CACHE_HOME"] = (
        str(cache.parents[2]) if cache.is_dir() and cache.parts[-3:] == CACHE else tempfile.mkdtemp(prefix="cache-")
    )
    try:
        import snakemake
    except ImportError:
        _fail(
            "NoSnakemake",
            f"this image holds no Snakemake for its python3; the job needs Snakemake {job['snakemake']}: see"
            " --tes-auth-image",
        )
    if snakemake.__version__ != job["snakemake"]:
        _fail(
            "WrongSnakemake",
            f"this image holds Snakemake {snakemake.__version__}, the workflow runs under {job['snakemake']}: see"
            " --tes-auth-image",
        )
    _few_plugins(job["storage"])
    _light_imports()
    _plain_cache()
    import snakemake.cli
    from snakemake.executors.local import Executor

    Executor.get_python_executable = lambda _: f"{sys.executable} {Path(argv[0]).absolute()} {Path(argv[1]).absolute()}"
    if argv[2:4] == ["-m", "snakemake"]:
        snakemake.cli.main(argv[4:])
    try:
        snakemake.cli.main(_arguments(job))
    except SystemExit as end:
        if end.code:
            _tell([Path(log) for log in job["logs"]])
            raise
    _move(job["folders"])


def _link(links: list[list[str]]) -> None:
    """Makes the workflow's symbolic links, whose targets came as files."""
    for path, target in links:
        if not os.path.lexists(path):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).symlink_to(target)


def _copy(copies: list[list[str]]) -> None:
    """Brings what is to be changed in place to where the job may write; within a group it is there after the first."""
    for path, before in copies:
        if not Path(path).exists():
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(before, path)


def _tools(tools: list[list[str]]) -> None:
    """Programs of the workflow, which a TES brings as plain files that nobody may change. The image may have them."""
    for path, before in tools:
        if not (Path(path).exists() and filecmp.cmp(before, path, shallow=False)):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(before, path)
            Path(path).chmod(0o755)


def _plain_cache() -> None:
    """The source cache's files came at their plain paths: Snakemake names them with the `..` of its own arguments."""
    from snakemake.sourcecache import SourceCache

    entry = SourceCache._cache_entry
    SourceCache._cache_entry = lambda self, file: Path(os.path.normpath(entry(self, file)))


def _move(folders: list[list[str]]) -> None:
    """Puts each directory output where the TES takes it from; what a link points to is stored in the link's place."""
    for made, target in folders:
        if Path(made).is_dir():
            shutil.copytree(made, target, ignore_dangling_symlinks=True, dirs_exist_ok=True)


def _tell(logs: list[Path]) -> None:
    """Where a job fails no output is stored, its logs neither: what they end with goes to standard error."""
    for log in logs:
        if log.is_file() and (text := log.read_bytes()[-4000:].decode(errors="replace")):
            print(f"--- the end of {log}:\n{text}", file=sys.stderr)


def _arguments(job: dict[str, Any]) -> list[str]:
    """The job's own arguments, and those whose values the command line cannot carry as they are."""
    import yaml
    from snakemake.settings import types as settings
    from snakemake_interface_executor_plugins.utils import TargetSpec

    config = yaml.safe_load(job["config"])
    targets = [TargetSpec(rule, wildcards) for rule, wildcards in job["targets"]]
    unneeded = frozenset(job["unneeded"])

    # A wildcard's value may hold a comma or a quote, which the command line's own form of a target cannot say.
    class DAGSettings(settings.DAGSettings):
        def __post_init__(self) -> None:
            self.target_jobs = targets

    class StorageSettings(settings.StorageSettings):
        def __post_init__(self) -> None:
            super().__post_init__()
            self.unneeded_temp_files = unneeded

    # The command line would make text of integer keys and dates.
    class ConfigSettings(settings.ConfigSettings):
        def __post_init__(self) -> None:
            super().__post_init__()
            self.overwrite_config, self.configfiles = config, job["configfiles"]
            self.replace_workflow_config = job["replace_config"]

    import snakemake.cli

    snakemake.cli.DAGSettings, snakemake.cli.StorageSettings = DAGSettings, StorageSettings
    snakemake.cli.ConfigSettings = ConfigSettings
    provider, prefix = job["default_storage"]
    storage = ["--default-storage-provider", provider, "--default-storage-prefix", prefix] if provider else []
    return [*job["argv"], *storage]


def _fail(error_class: str, message: str) -> NoReturn:
    print(f"{message}\nGDI-ERROR class={error_class}", file=sys.stderr)
    sys.exit(1)


# --- a quick start ------------------------------------------------------------------------------


def _light_imports() -> None:
    """Imports Snakemake without what this job does not use. Afterwards a workflow that imports sqlalchemy or pulp gets
    the real one.
    """

    class Record:
        def __init__(self, **values: Any) -> None:
            self.__dict__.update(values)

    stand_ins = {name: types.ModuleType(name) for name in HEAVY if name not in sys.modules}
    for name, values in (
        ("sqlalchemy", {"Column": lambda *_: None, "JSON": None}),
        ("sqlmodel", {"SQLModel": Record, "Field": lambda default=None, **_: default}),
        ("snakemake.persistence.db", {"DbPersistence": None}),
    ):
        if name in stand_ins:
            stand_ins[name].__dict__.update(values)
    absent = [name for name in ABSENT if name not in sys.modules]
    sys.modules.update(stand_ins)
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]
    try:
        import snakemake.cli  # noqa: F401
    except ImportError:  # another Snakemake: then it takes its time
        for name in [m for m in sys.modules if m.partition(".")[0] == "snakemake"]:
            del sys.modules[name]
    finally:
        for name in [n for n, module in stand_ins.items() if sys.modules.get(n) is module] + absent:
            sys.modules.pop(name, None)


def _few_plugins(storage: dict[str, Any]) -> None:
    """No plugin of the image is looked for or imported: storage is passive, and a task needs no other executor, logger
    or scheduler.
    """
    from snakemake_interface_common.plugin_registry import PluginRegistryBase
    from snakemake_interface_storage_plugins.registry import StoragePluginRegistry

    def collect(self: Any) -> None:
        self.plugins = {}

    PluginRegistryBase.collect_plugins = collect
    registry = StoragePluginRegistry()
    for name, known in storage.items():
        module = _passive(name, known["schemes"], known["pairs"], known["spans"])
        registry.register_plugin(registry.module_prefix + name.replace("-", "_"), module)


# --- passive storage ----------------------------------------------------------------------------


def _passive(plugin: str, schemes: list[str], pairs: dict[str, str], spans: list[list[str]]) -> types.ModuleType:
    """A storage plugin whose objects are the local files that the TES staged; nothing is fetched and nothing sent."""
    from snakemake_interface_common.exceptions import WorkflowError
    from snakemake_interface_storage_plugins.storage_object import (
        StorageObjectGlob,
        StorageObjectRead,
        StorageObjectWrite,
    )
    from snakemake_interface_storage_plugins.storage_provider import StorageProviderBase, StorageQueryValidationResult

    class StorageObject(StorageObjectRead, StorageObjectWrite, StorageObjectGlob):
        def local_suffix(self) -> str:
            return local_suffix(str(self.query), pairs, spans)

        def exists(self) -> bool:
            return bool(self.local_path().exists())

        def mtime(self) -> float:
            return float(self.local_path().stat().st_mtime)

        def size(self) -> int:
            path = self.local_path()
            return 0 if path.is_dir() else path.stat().st_size

        def local_footprint(self) -> int:
            return 0

        async def inventory(self, cache: Any) -> None:
            """Asking a local file is as quick."""

        def get_inventory_parent(self) -> None:
            return None

        def cleanup(self) -> None:
            """Nothing is left anywhere."""

        def retrieve_object(self) -> None:
            if not self.exists():
                raise WorkflowError(
                    f"{self.query} is not an input of this job: a task has what its rule names as input, and no network"
                )

        def store_object(self) -> None:
            """The TES takes it from where it lies."""

        def remove(self) -> None:
            """Snakemake removes the local file; the stored one is the main process's to remove."""

        def list_candidate_matches(self) -> Iterable[str]:
            raise WorkflowError(
                f"{self.query}: storage cannot be searched in a task; search it at the workflow's top level into"
                " `config`, or name the files"
            )

    class StorageProvider(StorageProviderBase):
        @classmethod
        def get_storage_object_cls(cls) -> type:
            return StorageObject

        @classmethod
        def example_queries(cls) -> list[Any]:
            return []

        @classmethod
        def is_valid_query(cls, query: str) -> Any:
            valid = str(query) in pairs or (
                str(query).partition("://")[0] in schemes if "://" in str(query) else not schemes
            )
            return StorageQueryValidationResult(
                query=str(query), valid=valid, reason=None if valid else f"not a query of {plugin}"
            )

        def use_rate_limiter(self) -> bool:
            return False

        def default_max_requests_per_second(self) -> float:
            return 1000.0

        def rate_limiter_key(self, query: str, operation: Any) -> str:
            return plugin

    module = types.ModuleType(f"snakemake_storage_plugin_{plugin}")
    module.__dict__.update(StorageProvider=StorageProvider, StorageObject=StorageObject)
    return module


def local_suffix(query: str, pairs: dict[str, str], spans: list[list[str]]) -> str:
    """Where the main process has this query's file, below the provider's folder: as told, else by a beginning that is
    told, else by the query itself.
    """
    if query in pairs:
        return pairs[query]
    for head, local in spans:
        if query.startswith(head):
            return local + query[len(head) :]
    return query.partition("://")[2] or query.lstrip("/")


if __name__ == "__main__":
    main(sys.argv)
