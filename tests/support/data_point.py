"""A FAIR Data Point as GDI's mini-node serves one, and any other documents: paths of a server, which counts what was
asked for and how much of it was taken.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer

from tests.support.wire import BoundHandler
from tests.support.wires import DATA_POINT

TURTLE, JSON_LD = "text/turtle; charset=utf-8", "application/ld+json"
PREFIXES = """
@prefix dcat: <http://www.w3.org/ns/dcat#> . @prefix dct: <http://purl.org/dc/terms/> .
@prefix foaf: <http://xmlns.com/foaf/0.1/> . @prefix fdp-o: <https://w3id.org/fdp/fdp-o#> .
@prefix healthdcatap: <http://healthdataportal.eu/ns/health#> . @prefix ldp: <http://www.w3.org/ns/ldp#> .
@prefix xsd: <http://www.w3.org/2001/XMLSchema#> .
"""
PORTAL = "https://portal.example/datasets"


def dataset(url: str, identifier: str, title: str = "A cohort", more: str = "") -> str:
    """One dataset's statements, with the properties that the mini-node gives."""
    return f"""
<{url}> a dcat:Dataset ; dct:identifier "{identifier}" ; dct:title "{title}" ;
  dct:description "Made for a test." ; dct:publisher [ a foaf:Agent ; foaf:name "Institute" ] ;
  dct:accessRights <http://publications.europa.eu/resource/authority/access-right/RESTRICTED> ;
  dcat:theme <http://publications.europa.eu/resource/authority/data-theme/HEAL> ; {more}
  healthdcatap:numberOfRecords 381 ; healthdcatap:numberOfUniqueIndividuals 629 ;
  dcat:distribution [ a dcat:Distribution ; dcat:accessURL <{PORTAL}> ] .
"""


class DataPoint:
    """`documents`: by path the status, type and bytes. What is at `endless` never stops; `silent` never answers."""

    def __init__(self) -> None:
        self.documents: dict[str, tuple[int, str, bytes]] = {}
        self.headers: dict[str, dict[str, str]] = {}
        self.calls: Counter[str] = Counter()
        self.endless, self.silent = "", ""
        self.taken = 0  # bytes of `endless`
        self.quiet = threading.Event()
        point = self

        class Handler(BoundHandler):
            wire = DATA_POINT

            def do_GET(self) -> None:
                point.calls[self.path] += 1
                if self.path == point.silent:
                    point.quiet.wait(60)
                if self.path == point.endless:
                    self.send_response(200)
                    self.send_header("Content-Type", TURTLE)
                    self.send_header("Content-Length", str(200_000_000))
                    self.end_headers()
                    while point.taken < 200_000_000:
                        try:
                            point.taken += self.wfile.write(b"# nothing yet\n" * 5000)
                        except OSError:
                            return
                    return
                status, kind, body = point.documents.get(self.path, (404, "text/plain", b"no such path"))
                self.answer(status, body, kind, **point.headers.get(self.path, {}))

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"

    def put(self, path: str, text: str | bytes, kind: str = TURTLE, status: int = 200, **headers: str) -> str:
        """A document at `path`; its URL."""
        prefixed = PREFIXES + text if isinstance(text, str) and kind == TURTLE else text
        self.documents[path] = (status, kind, prefixed.encode() if isinstance(prefixed, str) else prefixed)
        self.headers[path] = headers
        return self.url + path

    def mini_node(self, datasets: dict[str, str], catalog: str = "genome-of-europe") -> str:
        """`/fairdp` with one catalog of these datasets (by id the title). The URL to enrol."""
        root = f"{self.url}/fairdp"
        self.put(f"/fairdp/catalog/{catalog}", self.catalog(catalog, [f"{root}/dataset/{name}" for name in datasets]))
        for name, title in datasets.items():
            self.put(f"/fairdp/dataset/{name}", dataset(f"{root}/dataset/{name}", name, title))
        return self.put(
            "/fairdp",
            f'<{root}> a fdp-o:FAIRDataPoint ; dct:title "A node" ; fdp-o:metadataCatalog <{root}/catalog/{catalog}> .',
        )

    def catalog(self, name: str, members: list[str], more: str = "") -> str:
        listed = "".join(f" ; dcat:dataset <{member}>" for member in members)
        return f'<{self.url}/fairdp/catalog/{name}> a dcat:Catalog ; dct:title "{name}" {more} {listed} .'


@contextmanager
def data_point() -> Iterator[DataPoint]:
    made = DataPoint()
    threading.Thread(target=made.http.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield made
    finally:
        made.quiet.set()
        made.http.shutdown()
        made.http.server_close()
