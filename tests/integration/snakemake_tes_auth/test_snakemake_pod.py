"""The pod's entry point with a real Snakemake: runs, failures, restarts, cancelling, tokens. Each test is named after
the promise it keeps.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pysam
import pytest

from tests.support.snakemake_node import Node
from tests.support.snakemake_pod import CHAIN, Pod, node, pod  # noqa: F401

pytestmark = pytest.mark.long
ROOT = Path(__file__).parents[3]
ALLELE = ROOT / "workflows" / "allele-frequency"
REAL = ROOT / "gdi" / "local_federation" / "data" / "1000G_2010_chr2_629samples.vcf.gz"


def cohort(node: Node) -> None:
    (node.archive / "DS1").mkdir(exist_ok=True)
    shutil.copyfile(REAL, node.archive / "DS1" / "cohort.vcf.gz.c4gh")


SLOW = """
container: "gdi-task:1"
rule all:
    input: expand("out/{i}.txt", i=range(3)), "after.txt"
rule slow:
    output: "out/{i}.txt"
    shell: "sleep {config[slow]}; echo {wildcards.i} > {output}"
rule after:
    input: expand("out/{i}.txt", i=range(3))
    output: "after.txt"
    shell: "cat {input} > {output}"
"""


def test_the_allele_frequency_workflow_runs_to_its_release(node: Node, pod: Pod) -> None:
    cohort(node)
    shutil.copytree(ALLELE, pod.root / "workflow")
    assert pod.start(regions=3).end() == 0, pod.said()
    release = json.loads((node.workspace / "release/allele_counts.json").read_text())
    assert release["format"] == "gdi-allele-counts/1" and len(release["sites"]) == 381
    assert not list(node.workspace.glob("count/**/*.jsonl")), "temporary files are removed through the gateway"
    assert node.told("rules")[0]["counts"] == {"validate": 1, "regions": 1, "count": 3, "gather": 1}
    assert node.told("node", state="starting") and node.told("node")[-1]["state"] == "success"
    assert len(node.told("job", state="done")) == 6
    assert node.told("progress")[-1]["done"] == node.told("progress")[-1]["total"]
    assert sorted(node.events) == list(range(1, len(node.events) + 1)), "events are numbered without gap"


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, Pod]]:
    """One finished run whose first task the platform loses once, and whose second needs a second try; short-lived
    tokens, one of them revoked early.
    """
    root = tmp_path_factory.mktemp("chain")
    with Node(root / "node") as node:
        pod = Pod(root / "pod", node)
        node.system_errors["first"] = 1
        node.token_lifetime = 3
        snakefile = CHAIN.replace(
            "rule second:", "rule second:\n    retries: 1\n    resources: tries=lambda w, attempt: attempt"
        ).replace("cat {input} >", "sleep 2; test {resources.tries} = 2; cat {input} >")
        pod.workflow(snakefile).start()
        try:
            node.wait(lambda: node.of_rule("first"))
            pod.seen = processes()
            node.revoked.update(node.tokens)
            pod.code = pod.end()
            yield node, pod
        finally:
            pod.kill()


def processes() -> bytes:
    """Arguments and environments of all Snakemake processes that we may look at."""
    seen = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if b"snakemake" in (line := (entry / "cmdline").read_bytes()):
                    seen.append(line + (entry / "environ").read_bytes())
            except OSError:
                continue
    assert len(seen) >= 2
    return b"".join(seen)


def test_a_chain_with_log_and_temporary_file_leaves_only_its_result(chain: tuple[Node, Pod]) -> None:
    node, pod = chain
    assert pod.code == 0, pod.said()
    assert (node.workspace / "end.txt").read_text() == "one\ntwo\n"
    assert (node.workspace / "logs/second.log").exists() and not (node.workspace / "first.txt").exists()


def test_a_platform_error_is_tried_again_and_loses_nothing(chain: tuple[Node, Pod]) -> None:
    assert [t["tags"]["gdi-try"] for t in chain[0].of_rule("first")] == ["1", "1.1"]


def test_a_rules_retries_make_new_tasks(chain: tuple[Node, Pod]) -> None:
    assert [(t["tags"]["gdi-try"], t["state"]) for t in chain[0].of_rule("second")] == [
        ("1", "EXECUTOR_ERROR"),
        ("2", "COMPLETE"),
    ]


def test_a_token_is_used_while_it_lives_and_one_refused_early_costs_one_fresh_one(chain: tuple[Node, Pod]) -> None:
    node, _ = chain
    assert 3 <= len(node.tokens) <= 15
    assert len([entry for entry in node.log if entry[2] == 401]) == 1


def test_no_token_is_in_arguments_environment_files_or_log(chain: tuple[Node, Pod]) -> None:
    node, pod = chain
    everything = (
        pod.seen
        + pod.log.read_bytes()
        + b"".join(p.read_bytes() for p in (pod.root / "work").rglob("*") if p.is_file())
    )
    assert b"run-token" not in everything and b"identity-1" not in everything
    assert "run-token" not in json.dumps(list(node.tasks.values()))


def test_a_failed_task_is_told_with_exit_code_class_and_line(node: Node, pod: Pod) -> None:
    snakefile = CHAIN.replace("echo one > {output}", "echo GDI-ERROR class=VcfFormatError line=123 >&2; exit 3")
    assert pod.workflow(snakefile).start().end() == 1
    failed = node.told("job", state="failed")[0]
    assert (failed["exit_code"], failed["error_class"], failed["line"], failed["rule"]) == (
        3,
        "VcfFormatError",
        123,
        "first",
    )
    assert "line 123" in node.told("node", state="failed")[0]["message"]


def test_a_withdrawn_dataset_fails_the_node_naming_it(node: Node, pod: Pod) -> None:
    node.denied["first"] = "DS1"
    assert pod.workflow(CHAIN).start().end() == 1
    assert node.told("node", state="failed")[0]["dataset"] == "DS1"
    assert len(node.of_rule("first")) == 1, "a denial is not tried again"


def test_a_dataset_that_is_not_granted_is_named_before_any_task(node: Node, pod: Pod) -> None:
    snakefile = CHAIN.replace(
        'output: temp("first.txt")', 'input: storage.sda("sda://OTHER/x.c4gh")\n    output: temp("first.txt")'
    )
    assert pod.workflow(snakefile).start().end() == 2, pod.said()
    assert "OTHER" in node.told("node", state="failed")[0]["message"] and not node.tasks


def test_a_broken_snakefile_fails_with_its_reason(node: Node, pod: Pod) -> None:
    assert pod.workflow("rule all:\n    inpt: 'x'\n").start().end() == 1
    assert "inpt" in node.told("node", state="failed")[0]["message"], pod.said()


def test_a_workflow_other_than_the_admitted_one_is_not_started(node: Node, pod: Pod) -> None:
    pod.workflow(CHAIN)
    pod.start()
    pod.kill()
    run = json.loads((pod.root / "run.json").read_text())
    run["digest"] = "sha256:" + "0" * 64
    (pod.root / "run.json").write_text(json.dumps(run))
    result = subprocess.run(
        [sys.executable, "-m", "snakemake_tes_auth.pod", "--root", str(pod.root)], timeout=120, capture_output=True
    )
    assert result.returncode == 2


def test_a_cancelled_pod_leaves_no_live_task(node: Node, pod: Pod) -> None:
    pod.workflow(SLOW).start(slow=300)
    node.wait(lambda: len(node.live()) == 3)
    pod.signal(signal.SIGTERM)
    assert pod.end() == 1
    assert not node.live() and {t["state"] for t in node.tasks.values()} == {"CANCELED"}
    assert node.told("node")[-1]["state"] == "cancelled"


@pytest.mark.parametrize("evicted", [False, True])
def test_a_handed_over_or_evicted_pod_leaves_its_tasks_to_the_next_which_submits_none_twice(
    node: Node, pod: Pod, evicted: bool
) -> None:
    if evicted:  # in Kubernetes, where the launcher would have marked a pod that it cancels
        (pod.root / "pod").mkdir()
        (pod.root / "pod" / "annotations").write_text('gdi-spec="x"\n')
    pod.workflow(SLOW).start(slow=2)
    node.wait(lambda: len(node.live()) == 3)
    pod.signal(signal.SIGTERM if evicted else signal.SIGUSR1)
    assert pod.end() == 75 and not [t for t in node.tasks.values() if t["state"] == "CANCELED"]
    assert pod.start(slow=2).end() == 0, pod.said()
    assert len(node.tasks) == 4
    assert (node.workspace / "after.txt").read_text() == "0\n1\n2\n"


@pytest.mark.parametrize("keep_state", [True, False])
def test_a_killed_pod_adopts_live_tasks_and_believes_finished_ones(node: Node, pod: Pod, keep_state: bool) -> None:
    """SIGKILL with one slot: one task finished, one runs, one waits; one more ends before the next pod, which has the
    same work folder or an empty one.
    """
    node._slots = 1
    pod.workflow(SLOW).start(slow=1)
    node.wait(lambda: {t["state"] for t in node.tasks.values()} == {"COMPLETE", "RUNNING", "QUEUED"})
    pod.kill()
    node.hold.clear()
    node.wait(lambda: sum(t["state"] == "COMPLETE" for t in node.tasks.values()) == 2)
    if not keep_state:
        shutil.rmtree(pod.root / "work")
        (pod.root / "work").mkdir()
    pod.start(slow=1)
    node.hold.set()
    assert pod.end() == 0, pod.said()
    assert len(node.tasks) == 4, [t["tags"] for t in node.tasks.values()]
    assert (node.workspace / "after.txt").read_text() == "0\n1\n2\n"


def test_a_gateway_and_a_broker_that_are_away_for_a_while_lose_nothing(node: Node, pod: Pod) -> None:
    pod.workflow(SLOW).start(slow=1)
    node.wait(lambda: len(node.live()) == 3)
    node.away = node.broker_away = True
    node.wait(lambda: not node.live())
    node.away = node.broker_away = False
    assert pod.end() == 0, pod.said()
    assert len(node.tasks) == 4 and node.told("node")[-1]["state"] == "success"


def test_a_rule_without_container_runs_in_the_projects_task_image(node: Node, pod: Pod) -> None:
    assert pod.workflow(CHAIN.replace('container: "gdi-task:1"', "")).start().end() == 0, pod.said()
    assert {t["executors"][0]["image"] for t in node.tasks.values()} == {"gdi-task:1"}


def test_reading_a_files_content_is_refused_in_words_for_the_author(node: Node, pod: Pod) -> None:
    snakefile = CHAIN.replace("rule all:", "localrules: second\nrule all:")
    assert pod.workflow(snakefile).start().end() == 1
    assert "contents stay at the node" in pod.said()


def test_of_a_file_with_an_index_each_job_gets_its_section(node: Node, pod: Pod) -> None:
    cohort(node)
    shutil.copytree(ALLELE, pod.root / "workflow")
    index = pysam.tabix_index(str(shutil.copy(REAL, pod.root / "c.vcf.gz")), preset="vcf", force=True)
    shutil.copyfile(f"{index}.tbi", node.archive / "DS1" / "c.tbi.c4gh")
    one = {"path": "cohort.vcf.gz.c4gh", "format": "vcf", "index": "c.tbi.c4gh"}
    node.described = {"DS1": {"assembly": "GRCh37", "absent": "unknown", "files": [one]}}
    assert pod.start(regions=3).end() == 0, pod.said()
    release = json.loads((node.workspace / "release/allele_counts.json").read_text())
    assert len(release["sites"]) == 381
    assert node.told("rules")[0]["counts"] == {"sections": 1, "validate": 1, "regions": 1, "count": 3, "gather": 1}
    inputs = [i["url"] for t in node.of_rule("count") for i in t["inputs"] if i.get("url", "").startswith("sda:")]
    assert sorted(inputs) == [f"sda://DS1/.gdi/sections/DS1.0/{n}/cohort.vcf.gz.c4gh" for n in (1, 2, 3)]
