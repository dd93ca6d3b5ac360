"""A process of its own that reads RDF documents of strangers: `python -m token_broker.catalogues.documents MEMORY`
(bytes). It opens no connection and no file, and dies where a document wants too much memory or time.

Standard input: {"claims": ["EGAD1", "EGAD-B*"], "documents": [{"url", "format": "turtle" | "json-ld", "text"}]};
standard output: one object for each document, {"error"} or {"datasets": [record], "catalogs": [url], "members": [url]}.
The terms are those of DCAT 3, DCAT-AP 3 and HealthDCAT-AP release 5; links between documents those of the FAIR Data
Point specification 1.2, the Linked Data Platform and Hydra.
"""

from __future__ import annotations

import json
import logging
import resource
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any

from rdflib import DCAT, DCTERMS, FOAF, RDF, RDFS, SKOS, XSD, Graph, Literal, Namespace, URIRef
from rdflib.term import Node

from token_broker.catalogues.bounds import MAX_DOCUMENTS, MOST_KEPT
from token_broker.catalogues.links import LONGEST, origin, web_link

CPU = 60  # seconds
# Of a document, and of each kind of its links: one more than is taken of a catalogue, which then knows of more.
MOST_DATASETS, MOST_LINKS = MOST_KEPT + 1, MAX_DOCUMENTS + 1
MOST_VALUES = 20  # of one property
TITLE, DESCRIPTION, LINK = 200, 2000, LONGEST  # letters

FDP = Namespace("https://w3id.org/fdp/fdp-o#")
LDP = Namespace("http://www.w3.org/ns/ldp#")
HYDRA = Namespace("http://www.w3.org/ns/hydra/core#")
RE3DATA = Namespace("http://www.re3data.org/schema/3-0#")
HEALTH = Namespace("http://healthdataportal.eu/ns/health#")
TO_CATALOGS = (FDP.metadataCatalog, RE3DATA.dataCatalog, LDP.contains, DCAT.catalog, HYDRA.next, HYDRA.nextPage)
THEMES = (HEALTH.healthTheme, HEALTH.healthCategory, DCAT.theme)


class Claims:
    """Ids of datasets, and prefixes that end in `*`."""

    def __init__(self, claims: list[str]) -> None:
        self._exact = {claim for claim in claims if not claim.endswith("*")}
        self._prefixes = tuple(claim[:-1] for claim in claims if claim.endswith("*"))

    def covers(self, name: str) -> bool:
        return name in self._exact or name.startswith(self._prefixes)


class DocumentError(ValueError):
    """A document that is not read, with the reason."""


def read(text: str, form: str, url: str, claims: Claims) -> dict[str, Any]:
    """What a document says of datasets that `claims` covers (ids, or prefixes that end in `*`), and where more is."""
    try:
        if form == "json-ld":
            _without_remote_contexts(json.loads(text))
        graph = Graph().parse(data=text, format=form, publicID=url)
    except DocumentError:
        raise
    except MemoryError:
        raise DocumentError("it needs more memory than a catalogue may") from None
    except RecursionError:
        raise DocumentError("it is nested too deeply") from None
    except Exception as error:  # rdflib's parsers raise whatever they meet
        raise DocumentError(f"it is no {form}: {type(error).__name__}") from None
    catalogs = _links((o for term in TO_CATALOGS for o in graph.objects(None, term)), url)
    described_elsewhere = (o for o in graph.objects(None, DCAT.dataset) if (o, DCTERMS.title, None) not in graph)
    members = _links(described_elsewhere, url)
    return {
        "datasets": list(_records(graph, claims)),
        "catalogs": catalogs[:MOST_LINKS],
        # those whose URL ends in an id that a node holds stand before the others, which a bound may cut off
        "members": sorted(members, key=lambda link: not claims.covers(_last(link)))[:MOST_LINKS],
    }


def _without_remote_contexts(value: Any) -> None:
    """A context is written out, never fetched: whoever writes the document would choose where this server looks."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if "@import" in one or _links_in(one.get("@context")):
                raise DocumentError("its @context is a link; ask for Turtle, or write the context out")
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one


def _links_in(context: Any) -> bool:
    """Whether a context, or one in a list of lists of them, is a string. rdflib flattens such lists and reads each."""
    waiting = [context]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            return True
        waiting += one if isinstance(one, list) else []
    return False


# --- datasets -----------------------------------------------------------------------------------


def _records(graph: Graph, claims: Claims) -> Iterator[dict[str, Any]]:
    subjects = {s for s in graph.subjects(RDF.type, DCAT.Dataset) if (s, RDF.type, DCAT.Catalog) not in graph}
    known: set[str] = set()
    for subject in sorted(subjects, key=str):
        names = _names(graph, subject)
        found = next((name for name in names if claims.covers(name)), None)
        if found is None or found in known:
            continue
        known.add(found)
        yield _record(graph, subject, found)
        if len(known) >= MOST_DATASETS:
            return


def _names(graph: Graph, subject: Node) -> list[str]:
    """What a dataset is called: its identifiers, its own URL, and what stands last in each."""
    whole = [str(o)[:LINK] for o in _objects(graph, subject, DCTERMS.identifier)]
    whole += [str(subject)[:LINK]] if isinstance(subject, URIRef) else []
    return whole + [_last(name) for name in whole]


def _last(url: str) -> str:
    return url.rstrip("/").rpartition("/")[2]


def _record(graph: Graph, subject: Node, dataset: str) -> dict[str, Any]:
    page = [*_objects(graph, subject, DCAT.landingPage), *([subject] if isinstance(subject, URIRef) else [])]
    distributions = _objects(graph, subject, DCAT.distribution)
    access = [o for d in distributions for o in _objects(graph, d, DCAT.accessURL)]
    publishers = _objects(graph, subject, DCTERMS.publisher) or _objects(graph, subject, DCTERMS.creator)
    themes = [_label(graph, o) for term in THEMES for o in _objects(graph, subject, term)]
    return {
        "id": dataset,
        "title": _text(graph, subject, DCTERMS.title, TITLE),
        "description": _text(graph, subject, DCTERMS.description, DESCRIPTION),
        "publisher": next((name for p in publishers if (name := _name(graph, p))), ""),
        "access_rights": next((_label(graph, o) for o in _objects(graph, subject, DCTERMS.accessRights)), ""),
        "themes": sorted({theme for theme in themes if theme})[:MOST_VALUES],
        "records": _count(graph, subject, HEALTH.numberOfRecords),
        "individuals": _count(graph, subject, HEALTH.numberOfUniqueIndividuals),
        "link": next((link for o in page if (link := web_link(str(o)))), None),
        "access_url": next((link for o in access if (link := web_link(str(o)))), None),
    }


def _objects(graph: Graph, subject: Node, term: URIRef) -> list[Node]:
    """Sorted, so that two readers of a document say the same."""
    found = sorted(graph.objects(subject, term), key=str)
    return found[:MOST_VALUES]


def _text(graph: Graph, subject: Node, term: URIRef, most: int) -> str:
    """In English where there is English, else without a language, else in the first one."""
    values = [o for o in _objects(graph, subject, term) if isinstance(o, Literal)]
    values.sort(key=lambda o: (not (o.language or "").startswith("en"), bool(o.language), o.language or ""))
    return plain(str(values[0]), most) if values else ""


def _name(graph: Graph, agent: Node) -> str:
    if isinstance(agent, Literal):
        return plain(str(agent), TITLE)
    return _text(graph, agent, FOAF.name, TITLE) or _label(graph, agent)


def _label(graph: Graph, value: Node) -> str:
    """A word for a concept: its label, else what stands last in its URL (RESTRICTED, HEAL)."""
    if isinstance(value, Literal):
        return plain(str(value), TITLE)
    written = _text(graph, value, SKOS.prefLabel, TITLE) or _text(graph, value, RDFS.label, TITLE)
    last = str(value).rstrip("/#").replace("#", "/").rpartition("/")[2] if isinstance(value, URIRef) else ""
    return written or plain(last, TITLE)


def _count(graph: Graph, subject: Node, term: URIRef) -> int | None:
    for value in _objects(graph, subject, term):
        if (digits := str(value)).isascii() and digits.isdigit() and len(digits) <= 15:
            return int(digits)
    return None


def plain(text: str, most: int) -> str:
    """One line without control characters and without those that turn the direction of what is read."""
    kept = (" " if c.isspace() else c for c in text[: 4 * most] if c.isspace() or unicodedata.category(c)[0] != "C")
    line = " ".join("".join(kept).split())
    return line if len(line) <= most else line[: most - 1] + "…"


def _links(found: Iterable[Node], url: str) -> list[str]:
    """Those at the server of `url`, each once, without fragments; others are nobody's choice but the document's."""
    server = origin(url)
    links = {str(one).partition("#")[0] for one in found}
    return sorted(link for link in links if web_link(link) and origin(link) == server)


# --- the process ---------------------------------------------------------------------------------


def main() -> None:
    """Reads one request and answers it."""
    memory = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU, CPU))
    logging.disable()  # rdflib tells of each odd date
    _warm_up()
    sys.addaudithook(_no_way_out)
    request = json.loads(sys.stdin.buffer.read())
    answers, claims = [], Claims(request["claims"])
    for document in request["documents"]:
        try:
            answers.append(read(document["text"], document["format"], document["url"], claims))
        except DocumentError as error:
            answers.append({"error": str(error)})
    sys.stdout.buffer.write(json.dumps(answers, ensure_ascii=False).encode(errors="surrogatepass"))


def _warm_up() -> None:
    """Reads a document of each format, with the types of values that rdflib loads code for: later it opens nothing."""
    values = {XSD.date: "2026-01-01", XSD.dateTime: "2026-01-01T00:00:00Z", XSD.duration: "P1D", XSD.decimal: "1.0"}
    values |= {XSD.hexBinary: "00", XSD.base64Binary: "AA==", RDF.XMLLiteral: "<a/>", RDF.HTML: "<a></a>"}
    written = ", ".join(f'"{value}"^^<{kind}>' for kind, value in values.items())
    read(f'<x> <http://p.example/> {written}, "a"@en .', "turtle", "http://h.example/", Claims([]))
    context = {"p": "http://p.example/", "@vocab": "http://v.example/"}
    read(json.dumps({"@context": context, "@id": "x", "p:a": ["a"]}), "json-ld", "http://h.example/", Claims([]))


def _no_way_out(event: str, _: object) -> None:
    if event.startswith("socket.") or event in ("open", "urllib.Request", "subprocess.Popen", "os.system"):
        raise PermissionError("a reader of documents opens nothing")


if __name__ == "__main__":
    main()
