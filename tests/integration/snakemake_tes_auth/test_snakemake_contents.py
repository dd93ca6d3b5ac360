"""Contents stay at the node: what would read or write a file where Snakemake runs is refused with the rule's name and
what to write instead.
"""

from __future__ import annotations

import pytest

from tests.support.snakemake_node import Node
from tests.support.snakemake_pod import CHAIN, Pod, node, pod  # noqa: F401

pytestmark = pytest.mark.long

CHECKPOINT = """
container: "gdi-task:1"
def parts(wildcards):
    with checkpoints.names.get().output[0].open() as names:
        return [f"part.{name.strip()}" for name in names]
rule all:
    input: "end"
checkpoint names:
    output: "names"
    shell: "printf 'a\\\\nb\\\\n' > {output}"
rule gather:
    input: parts
    output: "end"
    shell: "cat {input} > {output}"
"""

WITHIN = """
rule all:
    input: "end", "block"
rule first:
    output: "begin"
    shell: "echo one > {output}"
rule script:
    input: "begin"
    output: "end"
    log: "logs/end"
    script: "scripts/use.py"
rule block:
    input: "begin"
    output: "block"
    run:
        open(output[0], "w").write(open(input[0]).read() + config["run"] + "\\n")
"""


def test_an_input_function_that_opens_a_checkpoints_output_is_refused_by_its_rules_name(node: Node, pod: Pod) -> None:
    assert pod.workflow(CHECKPOINT).start().end() == 1
    said = node.told("node", state="failed")[0]["message"]
    assert "the input function of rule gather opens" in said and "scattergather" in said, pod.said()


def test_rules_that_work_where_snakemake_runs_are_refused_by_name_before_any_task(node: Node, pod: Pod) -> None:
    snakefile = CHAIN.replace("rule all:", "localrules: second\nrule all:").replace(
        "rule second:", 'rule flag:\n    output: touch("flag")\nrule second:'
    )
    assert pod.workflow(snakefile.replace('input: "end.txt"', 'input: "end.txt", "flag"')).start().end() == 1
    assert "rules flag, second would read or write files" in node.told("node", state="failed")[0]["message"], pod.said()
    assert not node.tasks


def test_scripts_and_run_blocks_work_on_contents_in_their_task(node: Node, pod: Pod) -> None:
    pod.workflow(WITHIN)
    (pod.root / "workflow" / "scripts").mkdir()
    (pod.root / "workflow" / "scripts" / "use.py").write_text(
        "import helper\nhelper.copy(snakemake.input[0], snakemake.output[0])\n"
    )
    (pod.root / "workflow" / "scripts" / "helper.py").write_text(
        "def copy(a, b):\n    open(b, 'w').write(open(a).read().upper())\n"
    )
    assert pod.start().end(120) == 0, pod.said()
    assert (node.workspace / "end").read_text() == "ONE\n" and (
        node.workspace / "block"
    ).read_text() == f"one\n{node.run}\n"
    assert {t["tags"]["gdi-rule"]: t["tags"]["gdi-mode"] for t in node.tasks.values()} == {
        "first": "direct",
        "script": "snakemake",
        "block": "snakemake",
    }
