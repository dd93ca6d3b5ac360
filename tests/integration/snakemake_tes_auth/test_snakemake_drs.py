"""A `drs://` input and an htsget slice of a Snakefile in a federated run: asked of the gateway, sent on in the task,
and resolved there (tests/integration/node_gateway/test_gateway_drs.py has the gateway itself).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.support.problems import problem
from tests.support.snakemake_node import Node
from tests.support.snakemake_pod import Pod

SNAKEFILE = """
rule all:
    input: "end.txt"
rule one:
    input: storage.sda("drs://drs.archive.example/{id}")
    output: "{id,[a2].*}.txt"
    container: "gdi-task:1"
    shell: "cat {input} > {output}; echo {input} >> {output}"
rule slice:
    input: storage.sda("htsget://DS1/three.vcf.gz?referenceName=20&start=0&end=9")
    output: "slice.txt"
    container: "gdi-task:1"
    shell: "cat {input} > {output}; echo {input} >> {output}"
rule join:
    input: expand("{id}.txt", id=["a%2F1", "2", "slice"])
    output: "end.txt"
    container: "gdi-task:1"
    shell: "cat {input} > {output}"
"""


class DrsNode(Node):
    """Whose gateway knows objects, by what follows `drs://`: the path of a file of DS1, or why it is refused."""

    objects: dict[str, str]

    async def _door(self, request: Request, call_next: Any) -> Response:
        if not request.url.path.startswith("/drs/"):
            return await super()._door(request, call_next)
        told = self.objects.get(request.url.path.removeprefix("/drs/"), "")
        if not told.endswith(".c4gh"):
            return problem(403, "forbidden-location", told) if told else problem(404, "not-found", "no such object")
        size = (self.archive / "DS1" / told).stat().st_size
        return JSONResponse({"url": f"sda://DS1/{told}", "size": size, "modified": 5.0})

    async def _create(self, request: Request) -> Response:
        self.sent = getattr(self, "sent", [])
        for item in (await request.json())["inputs"]:  # kept by the request, which the answer below reads again
            url = item.get("url", "")
            if url.startswith(("drs://", "htsget://")):
                self.sent.append(url)
                item["url"] = f"sda://DS1/{self.objects.get(url[len('drs://') :], 'three.vcf.gz')}"
        return await super()._create(request)


def test_an_input_by_its_drs_id_or_a_slice_reaches_the_rule_as_a_file(tmp_path: Path) -> None:
    node = DrsNode(tmp_path / "node")
    with node:
        node.objects = {"drs.archive.example/a%2F1": "one.c4gh", "drs.archive.example/2": "two.c4gh"}
        (node.archive / "DS1").mkdir()
        (node.archive / "DS1/one.c4gh").write_text("of one\n")
        (node.archive / "DS1/two.c4gh").write_text("of two\n")
        (node.archive / "DS1/three.vcf.gz").write_text("a slice\n")
        pod = Pod(tmp_path / "pod", node)
        try:
            assert pod.workflow(SNAKEFILE).start().end() == 0, pod.said()
            lines = (node.workspace / "end.txt").read_text().splitlines()
            assert lines[0::2] == ["of one", "of two", "a slice"]
            assert [line.rpartition(".snakemake/storage/sda/")[2] for line in lines[1::2]] == [
                "drs/drs.archive.example/a~2F1",
                "drs/drs.archive.example/2",
                "htsget/DS1/referenceName=20,start=0,end=9/three.vcf.gz",
            ]
            assert sorted(node.sent) == [
                "drs://drs.archive.example/2",
                "drs://drs.archive.example/a%2F1",
                "htsget://variants/DS1/three?format=VCF&referenceName=20&start=0&end=9",
            ]
            node.objects = {"drs.archive.example/a%2F1": "it is a bundle of objects: name each of them"}
            (node.workspace / "end.txt").unlink()
            again = Pod(tmp_path / "again", node)
            assert again.workflow(SNAKEFILE).start().end() != 0
            assert "drs://drs.archive.example/a%2F1" in again.said() and "is a bundle" in again.said(), again.said()
        finally:
            pod.kill()
