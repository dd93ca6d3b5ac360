"""What is read of a workflow outside Snakemake's stable interface: a rule's own command, the configuration's types, the
folders of checkpoints. Fails loudly where another Snakemake changed one of them.
"""

from __future__ import annotations

import datetime
import inspect
import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import snakemake.api  # noqa: F401  (first: Snakemake's modules import each other in a circle)
import yaml
from snakemake.checkpoints import Checkpoint
from snakemake.executors.local import run_wrapper
from snakemake.parser import Run
from snakemake.settings import types as settings
from snakemake.shell import shell

from snakemake_tes_auth.workflow import shell_command as commands
from snakemake_tes_auth.workflow import typed
from snakemake_tes_auth.workflow.checkpoint_folders import WITHHELD, lay_out

HINT = "look at snakemake_tes_auth/workflow/shell_command.py before raising the pinned version"


def test_a_rules_function_takes_what_it_is_given() -> None:
    head = "".join(str(part) for part in list(Run("Snakefile", "x").start())[2:3])
    names = [name.strip() for name in head.partition("(")[2].rpartition(")")[0].split(",")]
    given = [line.split("#")[-1].strip(" ,") for line in inspect.getsource(commands._arguments).splitlines()]
    assert len(names) - 1 == 25 and names[0] == "input" and names[14] == "jobid" and names[24] == "runtime_paths", HINT
    assert [n for n in given if n in names] == [n for n in names if n in given], HINT
    assert "job_rule.run_func" in inspect.getsource(run_wrapper), HINT
    assert "format(cmd, *args, stepout=2, **kwargs)" in inspect.getsource(shell.__new__), HINT


def test_a_resource_that_is_known_in_the_task_only_is_the_tasks_own() -> None:
    class Resources:
        tmpdir, mem_mb = commands.LATER, 5

        def __getitem__(self, name: str) -> Any:
            return getattr(self, name)

    resources = commands.TaskResources(Resources())
    assert (resources.tmpdir, resources["tmpdir"], resources.mem_mb) == ("/tmp", "/tmp", 5)


def test_a_configuration_keeps_its_types_and_its_order() -> None:
    config = {
        "samples": {1: "one", 2: "two", None: "n", 1.5: "f"},
        "day": datetime.date(2024, 5, 6),
        "time": datetime.datetime(2024, 5, 6, 7, 8, 9),
        "text": ["2024-05-06", "1e3", "yes", "010", "a\nb", "é", "#", ""],
        "numbers": (1, 2.5, float("inf"), True, None),
        "ordered": OrderedDict([("b", 1), ("a", 2)]),
        "set": {1},
    }
    back = yaml.safe_load(typed.dump(config))
    assert back == {**config, "numbers": list(config["numbers"])} and list(back["ordered"]) == ["b", "a"]  # type: ignore[call-overload]
    assert {type(key) for key in back["samples"]} == {int, type(None), float}


def test_the_settings_whose_values_are_replaced_in_a_task_are_there() -> None:
    made = settings.ConfigSettings(config={"a": 1})  # type: ignore[dict-item]
    assert made.overwrite_config == {"a": 1} and made.replace_workflow_config is False and made.configfiles == []


def test_a_checkpoints_output_is_got_by_a_function_that_can_be_wrapped() -> None:
    assert list(inspect.signature(Checkpoint.get).parameters) == ["self", "wildcards"], HINT


def test_a_nodes_folder_is_names_and_sizes_that_nobody_can_open(tmp_path: Path) -> None:
    lay_out(tmp_path / "d", {"a.txt": 3, "sub/b": 0})
    assert sorted(os.listdir(tmp_path / "d")) == ["a.txt", "sub"]
    with pytest.raises(OSError, match=rf"{WITHHELD}|Permission denied|No such file"):
        (tmp_path / "d/a.txt").read_text()
