"""What a rule changes in place, leaves beside its outputs, reads through `..`, or writes into a new bucket."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from snakemake_tes_auth.files.s3_buckets import NewBuckets
from snakemake_tes_auth.tasks.tasks import CannotRun
from snakemake_tes_auth.workflow import adapter
from snakemake_tes_auth.workflow.jobview import JobFile
from tests.support.snakemake_jobs import RUN
from tests.support.snakemake_tasks import built, run, view


def stored(name: str) -> JobFile:
    return JobFile(name, f"workspace://{RUN}/{name}")


def test_what_is_updated_comes_in_beside_its_place_and_is_copied_there(tmp_path: Path) -> None:
    file = JobFile("d/t", f"workspace://{RUN}/d/t", updated=True)
    task = built(tmp_path, view(inputs=[file, stored("a")], outputs=[file], shell="cat a >> d/t"))
    assert [i["path"] for i in task["inputs"]] == [f"{tmp_path}/a", "/gdi/before/0"]
    script = task["executors"][0]["command"][4]
    assert f"copied {tmp_path}/d/t /gdi/before/0" in script
    assert [o["path"] for o in task["outputs"]] == [f"{tmp_path}/d/t"]


def test_a_new_file_that_is_updated_is_an_output_like_any_other(tmp_path: Path) -> None:
    done = run(tmp_path, view(inputs=[], outputs=[stored("t")], shell="echo x >> t"))
    assert done.returncode == 0 and (tmp_path / "t").read_text() == "x\n", done.stderr


def test_a_local_input_through_the_folder_above_is_the_file_that_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("x")
    job = view(inputs=[JobFile("nest/../x.txt", "")], outputs=[stored("o")], shell="cat nest/../x.txt > o")
    done = run(tmp_path, job)
    assert done.returncode == 0 and (tmp_path / "o").read_text() == "x", done.stderr
    with pytest.raises(CannotRun, match="neither in storage"):
        built(tmp_path, view(inputs=[JobFile("nest/../../x.txt", "")]))


def rule(name: str, **more: Any) -> Any:
    given = {"norun": False, "output": [], "log": [], "benchmark": None, "container_img": None, "group": None}
    return SimpleNamespace(name=name, **{**given, **more})


def test_a_rule_with_a_command_and_nothing_to_store_runs_here() -> None:
    rules = [
        rule("check"),
        rule("all", norun=True),
        rule("made", output=["x"]),
        rule("told", log=["l"]),
        rule("boxed", container_img="debian"),
        rule("grouped", group="g"),
        rule("timed", benchmark="b"),
    ]
    workflow = SimpleNamespace(rules=rules, _localrules={"mine"})
    assert adapter.run_here(workflow) == ["check"] and workflow._localrules == {"mine", "check"}


@pytest.mark.parametrize("region", ["us-east-1", "eu-north-1"])
def test_a_new_bucket_is_made_once_and_a_refusal_is_left_to_the_tes(region: str) -> None:
    made: list[dict[str, Any]] = []
    store = SimpleNamespace(create_bucket=lambda **given: made.append(given))
    provider = SimpleNamespace(s3c=store, settings=SimpleNamespace(region=region))
    asked: list[str] = []

    def stored_in(bucket: str, there: bool) -> Any:
        return SimpleNamespace(bucket=bucket, provider=provider, bucket_exists=lambda: [asked.append(bucket), there][1])

    def away() -> bool:
        raise OSError("no")

    buckets = NewBuckets()
    new = stored_in("new", there=False)
    buckets.need([new, new, stored_in("old", there=True), SimpleNamespace(query="sda://x")])
    buckets.need([new, SimpleNamespace(bucket="far", provider=provider, bucket_exists=away)])
    assert asked == ["new", "old"] and [m["Bucket"] for m in made] == ["new"]
    assert ("CreateBucketConfiguration" in made[0]) is (region != "us-east-1")
