"""From a job to a task: what is staged, what is run around the command, which way is taken, and what is refused in
words for the author.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tes.models import Input

from gdi.contracts.tes import from_json, to_json
from node_gateway.auth import Caller
from node_gateway.policy import Policy
from node_gateway.tasks.check import check
from node_gateway.tasks.models import TaskBody
from snakemake_tes_auth.tasks import remote_runner, tasks
from snakemake_tes_auth.tasks.reasons import failure
from snakemake_tes_auth.tasks.tasks import RUNNER, Builder, CannotRun, resources
from snakemake_tes_auth.workflow.adapter import by_span, heads
from snakemake_tes_auth.workflow.jobview import JobFile, JobView
from snakemake_tes_auth.workflow.source_files import SourceFiles
from tests.support.snakemake_jobs import RUN
from tests.support.snakemake_tasks import BASH, built, run, view


def stored(path: str, **more: Any) -> JobFile:
    return JobFile(f"s/workspace/{path}", f"workspace://{RUN}/{path}", **more)


# --- the task -----------------------------------------------------------------------------------


def test_a_shell_rule_becomes_a_plain_task_in_its_own_image(tmp_path: Path) -> None:
    task = built(tmp_path, view(logs=[stored("l/log")], benchmark=stored("b.tsv")))
    executor = task["executors"][0]
    assert executor["image"] == "python:3.13" and executor["workdir"] == str(tmp_path) and "env" not in executor
    assert (
        executor["command"][:4] == ["/bin/bash", "-euo", "pipefail", "-c"]
        and executor["command"][-1] == f"{BASH} cat a > b"
    )
    assert task["inputs"] == [{"url": "sda://D/a.c4gh", "path": f"{tmp_path}/s/sda/D/a.c4gh", "type": "FILE"}]
    assert [o["url"].removeprefix(f"workspace://{RUN}/") for o in task["outputs"]] == ["o ut/x", "l/log", "b.tsv"]
    assert len(task["tags"].pop("gdi-hash")) == 32
    assert task["tags"] == {"gdi-job": "k", "gdi-try": "1", "gdi-rule": "count", "gdi-jobid": "1", "gdi-mode": "direct"}
    assert task["volumes"] == [str(tmp_path)]  # writable where the container is not


def test_a_job_with_snakemake_inside_gets_runner_and_papers_and_no_command_of_the_workflow(tmp_path: Path) -> None:
    (tmp_path / "Snakefile").write_text("x")
    papers = {"argv": ["--cores", "2"], "config": {"é": 1}}
    task = built(
        tmp_path, view(shell=None, why_not_direct="it has no `shell:`", inside=papers, files=(tmp_path / "Snakefile",))
    )
    assert task["executors"][0]["command"] == ["python3", "/gdi/job/remote_runner.py", "/gdi/job/job.json"]
    assert task["executors"][0]["image"] == "gdi-task:1" and task["tags"]["gdi-mode"] == "snakemake"
    paths = {i["path"]: i.get("content") for i in task["inputs"]}
    nothing: dict[str, list[str]] = {name: [] for name in ("folders", "links", "copies", "detours", "tools")}
    assert (
        json.loads(paths["/gdi/job/job.json"]) == {**papers, **nothing}
        and {"/gdi/job/remote_runner.py", str(tmp_path / "Snakefile")} < paths.keys()
    )
    assert str(RUNNER) not in paths


def test_a_shell_rule_without_container_runs_in_the_default_image(tmp_path: Path) -> None:
    assert built(tmp_path, view(image=None))["executors"][0]["image"] == "gdi-task:1"


def project(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def sent(task: dict[str, Any], folder: Path) -> list[str]:
    paths = [i["path"] for i in task["inputs"] if "content" in i]
    return sorted(p.removeprefix(f"{folder}/") for p in paths)


def test_a_named_script_brings_the_workflows_files_and_nothing_hidden_secret_or_foreign(tmp_path: Path) -> None:
    names = ("Snakefile", "scripts/a.py", "scripts/lib.py", "data/x.txt")
    project(tmp_path, *names, "scripts/.hidden", ".env", ".git/config", "tls/server.key", "tool/__pycache__/x.pyc")
    (tmp_path / "scripts/link").symlink_to("/etc/passwd")
    (tmp_path / "folder").symlink_to("/etc")
    for shell in (
        f"python3 {tmp_path}/scripts/a.py",
        "python3 scripts/a.py < s/x",
        f"cat {tmp_path}/scripts/../scripts/a.py scripts/a.py .env /etc/passwd",
        "cd scripts && python3 a.py",
        "python3 -m scripts.a",
    ):
        assert sent(built(tmp_path, view(shell=shell)), tmp_path) == sorted(names), shell
    assert sent(built(tmp_path, view(shell="cat .env /etc/passwd ../x")), tmp_path) == []


def test_a_setting_adds_and_leaves_out_files(tmp_path: Path) -> None:
    project(tmp_path, "a.py", "tls/server.key", "notes/x.md", ".hidden/y", "data/z")
    sources = SourceFiles(tmp_path, tmp_path, patterns=("tls/*.key", ".hidden/y", "!notes", "!data/*"))
    task = built(tmp_path, view(shell="python3 a.py"), sources=sources)
    assert sent(task, tmp_path) == [".hidden/y", "a.py", "tls/server.key"]


def test_what_is_too_large_or_holds_a_credential_is_left_out_and_told(tmp_path: Path) -> None:
    project(tmp_path, "a.py", "password")
    (tmp_path / "large.bam").write_bytes(b"x" * 2000)
    sources = SourceFiles(tmp_path, tmp_path, limit=1000, never=frozenset([tmp_path / "password"]))
    assert sources.project.files == {tmp_path / "a.py"}
    assert sources.project.left_out == {
        tmp_path / "large.bam": "it has 2000 bytes, more than 1000",
        tmp_path / "password": "it holds a credential of this process",
    }
    (tmp_path / "another-name").symlink_to("password")
    sources = SourceFiles(tmp_path, tmp_path, never=frozenset([tmp_path / "password"]))
    for name in ("password", "another-name", "./password"):
        assert tmp_path / "password" not in sources.by_command(view(shell=f"cat a.py {name}"))
        assert tmp_path / "another-name" not in sources.by_command(view(shell=f"cat a.py {name}"))
        assert not sources.covers(tmp_path / name) and not sources.may_read(tmp_path / name)
    assert sources.by_snakemake({tmp_path / "password"}) & {tmp_path / "password"} == set()


def test_what_lies_beside_a_script_outside_of_the_project_goes_without_keys(tmp_path: Path) -> None:
    project(tmp_path, "flow/Snakefile", "tools/a.py", "tools/lib.py", "tools/id_rsa", "tools/server.pem", "tools/token")
    folder, tools = tmp_path / "flow", tmp_path / "tools"
    sources = SourceFiles(folder, folder, never=frozenset([tools / "token"]))
    assert sources.by_command(view(shell="python3 ../tools/a.py")) - {folder / "Snakefile"} == {
        tools / "a.py",
        tools / "lib.py",
    }


def test_nothing_beside_a_pods_workflow_is_sent_whatever_a_command_names(tmp_path: Path) -> None:
    """A run's identity lies there, and it is another one in each pod: tasks would not be found again either."""
    project(tmp_path, "workflow/Snakefile", "workflow/scripts/a.py", "identity/token", "run.json", "pod/annotations")
    folder, work = tmp_path / "workflow", tmp_path / "work"
    work.mkdir()
    own = {folder / "Snakefile", folder / "scripts/a.py"}
    pod = SourceFiles(folder, work, follow_out=False)
    assert pod.project.files == own
    for name in ("../identity/token", f"{tmp_path}/identity/token", "../run.json", f"{tmp_path}/identity", ".."):
        assert pod.by_command(view(shell=f"cat {name}")) == set(), name
        assert pod.by_command(view(shell=f"python3 {folder}/scripts/a.py {name}")) == own, name
        assert not pod.may_read(work / name)
    assert pod.by_snakemake({tmp_path / "identity/token", tmp_path / "run.json", folder / "Snakefile"}) == own
    (folder / "link").symlink_to(tmp_path / "identity/token")
    (folder / "up").symlink_to(tmp_path)
    (work / "link").symlink_to(tmp_path / "run.json")
    pod = SourceFiles(folder, work, follow_out=False)
    assert pod.project.files == own
    for path in (folder / "link", folder / "up/identity/token", work / "link"):
        assert pod.by_command(view(shell=f"cat {path}")) <= own, path
        assert not pod.covers(path) and not pod.may_read(path), path
        assert pod.by_snakemake({path}) == own, path
    anywhere = SourceFiles(folder, work)
    assert tmp_path / "identity/token" in anywhere.project.files, "a project with workflow/Snakefile goes whole"


def test_logs_and_what_this_process_writes_are_no_files_of_the_workflow(tmp_path: Path) -> None:
    project(tmp_path, "a.py", "old.log", "nohup.out")
    with (tmp_path / "events.jsonl").open("a"):
        sources = SourceFiles(tmp_path, tmp_path)
        assert sources.project.files == {tmp_path / "a.py"}
        assert sources.project.left_out[tmp_path / "events.jsonl"] == "it is a log"


def test_a_large_project_sends_with_a_command_what_lies_beside_the_named_file(tmp_path: Path) -> None:
    project(tmp_path, "scripts/a.py", "scripts/sub/lib.py", *(f"data/{i}" for i in range(300)))
    assert sent(built(tmp_path, view(shell="python3 scripts/a.py")), tmp_path) == ["scripts/a.py", "scripts/sub/lib.py"]


def test_a_link_within_the_workflow_is_a_link_in_the_task(tmp_path: Path) -> None:
    project(tmp_path, "common/a.sh", "common/lib.sh")
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts/a.sh").symlink_to("../common/a.sh")
    (tmp_path / "tools").symlink_to("common")
    for shell in ("bash scripts/a.sh", "bash tools/a.sh"):
        task = built(tmp_path, view(shell=shell))
        assert sent(task, tmp_path) == ["common/a.sh", "common/lib.sh"]
        script = task["executors"][0]["command"][4]
        assert (
            f"linked {tmp_path}/scripts/a.sh ../common/a.sh" in script and f"linked {tmp_path}/tools common" in script
        )


def test_a_program_of_the_workflow_is_one_in_the_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TES knows no modes, and what it mounts cannot be changed in its place."""
    brought, work = tmp_path / "brought", tmp_path / "work"
    monkeypatch.setattr(tasks, "TOOLS", str(brought))
    work.mkdir()
    project(work, "bin/to ol", "bin/plain")
    job = view(shell=f"{BASH} '{work}/bin/to ol' > 's/workspace/o ut/x'")
    plain = built(work, job)["tags"]["gdi-hash"]
    (work / "bin/to ol").chmod(0o755)
    task = built(work, job)
    paths = [i["path"] for i in task["inputs"] if "/bin/" in i["path"]]
    assert sorted(paths) == sorted([f"{brought}{work}/bin/to ol", f"{work}/bin/plain"])
    assert task["tags"]["gdi-hash"] != plain
    there = Path(f"{brought}{work}/bin/to ol")
    there.parent.mkdir(parents=True)
    there.write_text("#!/bin/sh\necho ran\n")
    done = run(work, job)
    assert done.returncode == 0, done.stderr
    assert (work / "s/workspace/o ut/x").read_text() == "ran\n"


def test_the_hash_of_a_task_changes_with_its_command_and_its_files_and_not_with_the_process(tmp_path: Path) -> None:
    def hash_of(job: JobView, content: str = "x", cache: str = "") -> str:
        plan = Builder(tmp_path, image="i", work=tmp_path).plan(job)
        plan = replace(plan, moving=((cache, "<cache>"), *plan.moving) if cache else plan.moving)
        return plan.hash([Input(content=content, path="/gdi/a")])

    one = view(shell="cat /tmp/cache-1/x")
    assert hash_of(one) == hash_of(one)
    assert hash_of(one) != hash_of(one, "y") and hash_of(one) != hash_of(view(shell="cat other"))
    assert hash_of(one) != hash_of(view(shell="cat /tmp/cache-1/x", environment={"A": "1"}))
    assert hash_of(one, cache="/tmp/cache-1") == hash_of(view(shell="cat /tmp/cache-2/x"), cache="/tmp/cache-2")


@pytest.mark.parametrize("image", ["https://x.org/a.sif", "shub://a/b", "library://a/b", "x.sif", "./a", "/a/b.sif"])
def test_an_image_that_no_tes_can_take_is_refused_by_its_rules_name(image: str, tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match=r"rule count: the image .* is one for Apptainer only"):
        built(tmp_path, view(image=image))


@pytest.mark.parametrize("name", ["h#h", "a?b", "d#/x"])
def test_a_name_that_the_storage_would_change_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match="rename the file"):
        built(tmp_path, view(outputs=[JobFile(name, f"s3://b/{name}")]))


def test_resources_are_what_tes_calls_them() -> None:
    asked = {"mem_mb": 1500, "disk_mb": 10, "preemptible": 1, "tes_zones": "a, b", "tes_vm_size": "large", "runtime": 5}
    assert to_json(resources(view(resources=asked))) == {
        "cpu_cores": 2,
        "ram_gb": 1.5,
        "disk_gb": 0.1,
        "preemptible": True,
        "zones": ["a", "b"],
        "backend_parameters": {"vm_size": "large"},
    }
    small, large = (
        view(threads=1, resources={"mem_mb": 100, "disk_mb": 500}),
        view(threads=4, resources={"mem_mb": 900, "disk_mb": 600}),
    )
    group = view(group=True, members=[small, large], resources={"mem_mb": 1000})
    assert to_json(resources(group, one_by_one=True)) == {"cpu_cores": 4, "ram_gb": 0.9, "disk_gb": 1.1}


def test_a_task_that_py_tes_finds_invalid_is_not_sent_and_names_its_rule() -> None:
    plan = Builder(Path("/w"), image="gdi-task:1", work=Path("relative")).plan(view())
    with pytest.raises(CannotRun, match=r"rule count .*Input path must be absolute; Output path must be absolute"):
        plan.task(key="k", tries="1", sources=[])


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"outputs": [JobFile("x", "")]}, "local"),
        ({"outputs": [JobFile("../x", f"workspace://{RUN}/x")]}, "relative"),
        ({"outputs": [stored("a\nb")]}, "control character"),
        ({"inputs": [JobFile("a", "https://me:secret@example.org/a")]}, "user or a password"),
        ({"inputs": [JobFile("/etc/passwd", "")]}, "neither in storage"),
        ({"inputs": [JobFile(".ssh/id", "")]}, "neither in storage"),
        ({"outputs": [stored(f"{i}/{'x' * 200}") for i in range(1000)]}, "longer"),
        ({"problem": "update() is not possible"}, "update"),
    ],
)
def test_a_job_that_cannot_be_a_task_says_what_to_write(changes: dict[str, Any], word: str, tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match=word) as told:
        built(tmp_path, view(**changes))
    assert "rule count" in str(told.value)


def test_the_way_is_chosen_for_each_job_and_forced_by_the_setting(tmp_path: Path) -> None:
    plain, script, long = view(), view(shell=None, why_not_direct="it has no `shell:`"), view(shell="x" * 200_000)

    def modes(mode: Any) -> list[str]:
        return [Builder(tmp_path, image="i", mode=mode, work=tmp_path).mode(job) for job in (plain, script, long)]

    assert modes("auto") == ["direct", "snakemake", "snakemake"] and modes("snakemake") == ["snakemake"] * 3
    for job, word in ((script, "no `shell:`"), (long, "longer")):
        with pytest.raises(CannotRun, match=word):
            Builder(tmp_path, image="i", mode="direct", work=tmp_path).mode(job)


def test_a_nodes_gateway_takes_both_kinds_of_task() -> None:
    """As they are made in a pod: paths under /gdi, no environment, nothing that looks like a secret."""
    plain = built(Path("/gdi/work"), view(image="gdi-task:1"))
    papers = {
        "argv": ["--snakefile", "/gdi/workflow/Snakefile"],
        "config": {"run": RUN},
        "targets": [["count", {"i": "a,b"}]],
    }
    within = built(Path("/gdi/work"), view(inside=papers))
    for item in within["inputs"]:
        if item["path"].endswith("remote_runner.py"):
            item["url"] = f"workspace://{RUN}/.gdi/sources/{'0' * 64}"
            del item["content"]
    caller = Caller("u", RUN, "node-a", 1, "w", "sha256:0", frozenset({"D"}), frozenset({"tasks"}), 1, "pod")
    for task in (plain, within):
        checked = check(
            TaskBody.model_validate(task).task(),
            caller,
            Policy(images=["gdi-task:1"], max_cpu_cores=2, max_ram_gb=2, max_disk_gb=2),
        )
        assert checked.job == "k" and len(checked.workspace_outputs) == 1


# --- around the command -------------------------------------------------------------------------


def test_folders_logs_and_threads_are_there_and_what_the_command_does_to_its_shell_stays_there(tmp_path: Path) -> None:
    shell = (
        f"{BASH} echo $OMP_NUM_THREADS $TMPDIR > 's/workspace/o ut/x'; trap 'exit 9' EXIT; failed() {{ :; }}; trap -"
        " EXIT; exit 0; false"
    )
    done = run(tmp_path, view(shell=shell, logs=[stored("logs/log")]))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "s/workspace/o ut/x").read_text() == "2 /tmp\n" and (
        tmp_path / "s/workspace/logs/log"
    ).read_text() == ""


def test_the_commands_exit_code_is_the_tasks(tmp_path: Path) -> None:
    assert run(tmp_path, view(shell=f"{BASH} (exit 7) | cat")).returncode == 7


@pytest.mark.parametrize("benchmark", [None, stored("b.tsv")])
def test_a_failed_commands_log_is_told_because_it_is_not_stored(benchmark: JobFile | None, tmp_path: Path) -> None:
    shell = (
        f"{BASH} (for i in {{1..9000}}; do echo $i; done; echo GDI-ERROR class=VcfFormatError line=3) > 's/workspace/a"
        " log' 2>&1; exit 4"
    )
    done = run(tmp_path, view(shell=shell, logs=[stored("a log"), stored("empty")], benchmark=benchmark))
    assert (
        done.returncode == 4
        and done.stderr.splitlines()[-1] == "GDI-ERROR class=VcfFormatError line=3"
        and len(done.stderr) < 5000
    )


@pytest.mark.parametrize(
    ("output", "shell", "error"),
    [
        (stored("x"), "true", "MissingOutput"),
        (stored("x"), "mkdir s/workspace/x", "ImproperOutput"),
        (stored("x", directory=True), "touch s/workspace/x", "MissingOutput"),
        (stored("x", non_empty=True), "touch s/workspace/x", "EmptyOutput"),
        (stored("x", checksum="sha256:00"), "touch s/workspace/x", "WrongChecksum"),
        (stored("x", checksum="md5:d41d8cd98f00b204e9800998ecf8427e"), "touch s/workspace/x", None),
        (stored("x", touch=True), "true", None),
        (
            stored("a 'b\" $c `d` \\\\ -e", non_empty=True),
            'echo x > "s/workspace/a \'b\\" \\$c \\`d\\` \\\\\\\\ -e"',
            None,
        ),
    ],
)
def test_a_task_ends_well_only_with_every_output_as_it_was_promised(
    output: JobFile, shell: str, error: str | None, tmp_path: Path
) -> None:
    done = run(tmp_path, view(outputs=[output], shell=shell))
    assert (done.returncode == 0) == (error is None), done.stderr
    if error:
        assert done.stderr.splitlines()[-1] == f"GDI-ERROR class={error}"


def test_an_empty_directory_is_kept_by_an_object_store(tmp_path: Path) -> None:
    assert run(tmp_path, view(outputs=[stored("d", directory=True)], shell="mkdir s/workspace/d")).returncode == 0
    assert [p.name for p in (tmp_path / "s/workspace/d").iterdir()] == [".snakemake_timestamp"]


def test_what_lies_within_a_directory_output_is_taken_from_where_that_is_put(tmp_path: Path) -> None:
    outputs = [stored("d/sub", directory=True), stored("d/list"), stored("d", directory=True), stored("dd")]
    task = built(tmp_path, view(outputs=outputs, logs=[stored("d/log")]))
    taken = {o["url"].partition(f"{RUN}/")[2]: o["path"] for o in task["outputs"]}
    top = taken.pop("d")
    within = {f"d/{name}": f"{top}/{name}" for name in ("sub", "list", "log")}
    assert taken == {**within, "dd": f"{tmp_path}/s/workspace/dd"}


def test_the_jobs_of_a_group_run_in_order_each_for_itself(tmp_path: Path) -> None:
    first = view(
        rule="first", outputs=[stored("inner")], shell=f"{BASH} cd /; x=1; echo first > {tmp_path}/s/workspace/inner"
    )
    second = view(
        rule="second",
        inputs=[stored("inner")],
        outputs=[stored("end")],
        shell=f'{BASH} cat s/workspace/inner > s/workspace/end; test -z "${{x:-}}"',
    )
    group = view(
        rule="first+second", group=True, members=[first, second], inputs=[], outputs=[stored("end")], shell=None
    )
    task = built(tmp_path, group)
    assert [o["url"] for o in task["outputs"]] == [f"workspace://{RUN}/end"] and not task["inputs"]
    done = run(tmp_path, group)
    assert done.returncode == 0 and (tmp_path / "s/workspace/end").read_text() == "first\n", done.stderr
    broken = view(
        **{**group.__dict__, "members": [view(rule="first", outputs=[stored("inner")], shell="exit 5"), second]}
    )
    done = run(tmp_path, broken)
    assert done.returncode == 5 and "rule first" in done.stderr


def test_a_benchmark_has_snakemakes_columns_and_what_proc_knows(tmp_path: Path) -> None:
    from snakemake.benchmark import BenchmarkRecord

    (tmp_path / "grow.py").write_text(
        "import time\nx = bytearray(60_000_000)\nt = time.process_time()\nwhile time.process_time() < t + 0.3:"
        " pass\ntime.sleep(0.8)\n"
    )
    shell = f"{BASH} ({shutil.which('python3')} {tmp_path}/grow.py); touch s/workspace/x"
    began = time.monotonic()
    done = run(tmp_path, view(outputs=[stored("x")], shell=shell, benchmark=stored("b/x.tsv")))
    most = time.monotonic() - began  # however slow the machine is
    assert done.returncode == 0, done.stderr
    header, values, *rest = (tmp_path / "s/workspace/b/x.tsv").read_text().splitlines()
    assert header.split("\t") == BenchmarkRecord.get_header() and not rest
    found = dict(zip(header.split("\t"), values.split("\t"), strict=True))
    assert 1.0 < float(found["s"]) < most and 60 < float(found["max_rss"]) < 200
    assert found["h:m:s"] == str(timedelta(seconds=int(float(found["s"]))))
    assert 0.3 <= float(found["cpu_time"]) < most and 0 < float(found["mean_load"]) <= 400


def test_a_benchmarked_command_that_fails_fails_the_task(tmp_path: Path) -> None:
    assert run(tmp_path, view(shell="sleep 0.1; exit 6", benchmark=stored("b.tsv"))).returncode == 6


# --- passive storage ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "local", "other", "others_local"),
    [
        ("s3://bucket/a/b.txt", "bucket/a/b.txt", "s3://more/{i}", "more/{i}"),
        (f"workspace://{RUN}/a/{{i}}.txt", "workspace/a/{i}.txt", f"workspace://{RUN}/a/1.txt", "workspace/a/1.txt"),
        ("sda://D/a.c4gh", "sda/D/a.c4gh", "sda://E/b", "sda/E/b"),
        ("https://host/a?b=c", "0123abcd", "https://host/b", "host/b"),
    ],
)
def test_a_passive_provider_names_files_as_the_main_process_does(
    query: str, local: str, other: str, others_local: str
) -> None:
    spans = [heads(query, local)]
    told = [list(s) for s in spans]  # as JSON gives them back
    assert by_span(query, spans) == local == remote_runner.local_suffix(query, {}, told)
    assert remote_runner.local_suffix(other, {}, told) == others_local
    assert remote_runner.local_suffix(query, {query: "elsewhere"}, told) == "elsewhere"


# --- why it failed ------------------------------------------------------------------------------


def failed(stderr: str, **metadata: str) -> str:
    logs = [{"logs": [{"exit_code": 1, "stderr": stderr}], "metadata": metadata}]
    return failure(from_json({"state": "EXECUTOR_ERROR", "logs": logs})).sentence("count")


def test_a_tes_that_shows_standard_error_tells_class_line_and_last_words() -> None:
    assert (
        failed("one\n\x1b[31mtwo\nGDI-ERROR class=VcfFormatError line=7\n")
        == "rule count failed with VcfFormatError at line 7 (exit code 1); it said: one |  [31mtwo"
    )
    assert failed("") == "rule count failed (exit code 1)" and len(failed("x" * 100_000)) < 700


def test_the_nodes_own_word_stands_above_what_the_task_printed() -> None:
    assert "with AccessDenied" in failed("GDI-ERROR class=Fine\n", gdi_error_class="AccessDenied")


def test_of_snakemake_inside_a_task_its_jobs_own_error_is_told() -> None:
    stderr = (
        "rule x:\nValueError: bad value\n[Sun Nov 22]\nError in rule x:\n  jobid: 0\nShutting down, this might take"
        " some time.\nWorkflowError:\nAt least one\n"
    )
    assert "ValueError: bad value" in failed(stderr) and "Shutting" not in failed(stderr)
