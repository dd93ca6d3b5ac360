"""Answers in the Results page, in a real browser without Airflow: pictures that say the values under the pointer, and
ten million rows in pages.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import polars as pl
import pytest

from gdi.contracts.results import AnswerPage, AnswerRows, ResultsView
from gdi.releases.allele_counts.column_answer import AlleleCountsAnswer
from gdi.releases.answer import read_page
from gdi.releases.columns import AnswerSpan, write_batches
from gdi.releases.registry import kind_of
from gdi_operators import ui
from tests.support.browser import Browser
from tests.support.debian import program
from tests.support.ui_world import PICTURES

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("ui")]
PAGE = '<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="/gdi.css"><div id="root"></div>'
PAGE += '<script type="module" src="/gdi.js"></script>'
ROWS = 10_000_000
Rows = Callable[[int, int, AnswerSpan | None], tuple[int, list[list[Any]]]]


class Server(ThreadingHTTPServer):
    """The page's script and style, one answer, and its rows in pages. `sent`: bytes of each answer."""

    answer: AnswerPage
    rows: Rows

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.sent: list[int] = []
        self.url = f"http://127.0.0.1:{self.server_port}/gdi/results/d/r"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        return

    def do_GET(self) -> None:
        path, query = urlsplit(self.path).path, {k: v[0] for k, v in parse_qs(urlsplit(self.path).query).items()}
        kind, status = "application/json", 200
        if path in ("/gdi.js", "/gdi.css"):
            kind, body = {"js": "text/javascript", "css": "text/css"}[path[5:]], (ui.DIST / path[1:]).read_bytes()
        elif path == "/gdi/results/d/r":
            kind, body = "text/html", PAGE.encode()
        elif path == "/gdi/data/results/d/r":
            view = ResultsView(
                state="closed", outcome="success", attempt=1, run="r", workflow=None, user="", crate=False
            )
            body = view.model_copy(update={"answer": self.server.answer}).model_dump_json().encode()
        elif path == "/gdi/data/rows/d/r":
            span = None
            if "chrom" in query:
                span = AnswerSpan(query["chrom"], int(query.get("low", 0)), int(query.get("high", 2**31)))
            total, rows = self.server.rows(int(query["start"]), int(query["count"]), span)
            body = AnswerRows(rows=rows, total=total, start=int(query["start"])).model_dump_json().encode()
        else:
            status, body = 404, b"{}"
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(body)
        self.server.sent.append(len(body))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    made = Server()
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(program("chromium"), tmp_path_factory.mktemp("browser") / "b") as browser:
        yield browser


def answer(kind: str, rows: list[list[Any]], folder: Path) -> AnswerPage:
    """As the plugin reads it from the answer's file."""
    half = kind_of(kind).coordinator()
    file, names = folder / "answer.tsv", [column.name for column in half.columns]
    lines = [names, *([*row, *[""] * (len(names) - len(row))] for row in rows)]
    file.write_text("".join("\t".join(map(str, line)) + "\n" for line in lines))
    return AnswerPage(**read_page(file, half.columns).json(), unit="row")


def choose(page: Browser, number: int, value: str) -> None:
    select = f"document.querySelectorAll('.groups select')[{number}]"
    page.evaluate(f"{select}.value = {json.dumps(value)}")
    page.evaluate(f"{select}.dispatchEvent(new Event('change', {{bubbles: true}}))")


READOUT = "document.querySelector('.readout').textContent"


def hover(page: Browser, number: int) -> str:
    page.evaluate(
        f"document.querySelectorAll('.mark')[{number}].dispatchEvent(new MouseEvent('mouseover', {{bubbles: true}}))"
    )
    page.wait(f"!{READOUT}.startsWith('Point at')")
    return str(page.evaluate(READOUT))


def test_cells_of_a_table_are_bars_by_a_chosen_group(server: Server, page: Browser, tmp_path: Path) -> None:
    none = [""] * 4
    rows = [["people", *none, *none, 180, 2, 180, 180]]
    rows += [["people", "sex", level, "", "", *none, n, 2, n, n] for level, n in (("F", 100), ("<b>M", 80))]
    rows += [["people", "sex", "F", "age", "0-49", *none, 60, 2, 60, 60]]
    rows += [["people", "sex", "F", "age", "50+", *none, "", 1, 3, 14, "small"]]
    server.answer = answer("table", rows, tmp_path)
    page.open(server.url)
    page.wait("document.querySelectorAll('.mark').length === 2")
    assert hover(page, 1) == "<b>M: 80 people, told by 2 nodes"
    choose(page, 1, "sex × age")
    page.wait("document.querySelectorAll('.between').length === 1")
    assert hover(page, 1) == "F × 50+: between 3 and 14 people, told by 1 node"
    page.picture(PICTURES / "results-table.png", height=900)
    assert page.problems == []


def test_means_say_their_numbers_for_the_chosen_variable(server: Server, page: Browser, tmp_path: Path) -> None:
    rows = [
        [name, "sex", level, "", "", 2, 500, mean, 0.8, 0.64, 2.5, 3.0, 3.6]
        for name, mean in (("ldl", 3.1), ("bmi", 24.5))
        for level in ("F", "M")
    ]
    server.answer = answer("moments", rows, tmp_path)
    page.open(server.url)
    page.wait("document.querySelectorAll('.mark').length === 2")
    choose(page, 0, "bmi")
    page.wait("document.querySelector('.groups svg').getAttribute('aria-label').startsWith('bmi')")
    assert hover(page, 0) == "F: n 500, mean 24.5, SD 0.8, quartiles 2.5, 3, 3.6, 2 nodes"
    assert page.problems == []


def test_the_strongest_variant_is_found_by_the_keyboard(server: Server, page: Browser, tmp_path: Path) -> None:
    chance = np.random.default_rng(17)
    rows = []
    for n, p in enumerate(chance.exponential(0.43, 3000)):
        strength = 9.5 if n == 2000 else p
        place = [1 + n // 500, 1000 * n, "A", "G", 2, 2500, 0.25]
        rows.append([*place, 0.1, 0.02, strength, 0.1, 0.03, 0.5 if n == 2000 else 4 * p, 1, 0.3, 0.1, "++"])
    server.answer = answer("variant-statistics", rows, tmp_path)
    page.open(server.url)
    page.wait("document.querySelectorAll('.groups canvas').length === 1")
    key = "new KeyboardEvent('keydown', {key: 'ArrowRight', bubbles: true})"
    page.evaluate(f"document.querySelector('.over').dispatchEvent({key})")
    page.wait(f"{READOUT}.startsWith('5:2000000 A>G: −log10 P 9.5, n 2500, frequency 0.25')")
    choose(page, 0, "effects that differ by node")
    page.wait(f"{READOUT}.includes('−log10 P 0.5,')")
    line = "[...document.querySelectorAll('.grid.answer .body .line')[1].children].map(c => c.offsetTop)"
    assert len(set(page.evaluate(line))) == 1, "a row of the table is one line"
    page.picture(PICTURES / "results-strengths.png", height=900)
    assert page.problems == []


def frames() -> Iterator[pl.DataFrame]:
    """Ten million sorted rows of five chromosomes."""
    schema, step = AlleleCountsAnswer.schema, 500_000
    for start in range(0, ROWS, step):
        number = np.arange(start, start + step)
        ac = number % 4000 + 8
        known = {
            "CHROM": pl.Series(["12345"[start * 5 // ROWS]]).new_from_index(0, step),
            "POS": number % (ROWS // 5) + 1,
        }
        known |= {"REF": ["A"] * step, "ALT": ["G"] * step, "AC": ac, "AN": np.full(step, 5008), "AF": ac / 5008}
        frame = pl.DataFrame({name: known[name] for name in schema if name in known})
        rest = [pl.lit(None, dtype=kind).alias(name) for name, kind in schema.items() if name not in known]
        yield frame.with_columns(rest).select(list(schema)).cast(schema)  # type: ignore[arg-type]


def test_ten_million_rows_are_shown_in_pages_and_by_region(server: Server, page: Browser, tmp_path: Path) -> None:
    merge, file = AlleleCountsAnswer(), tmp_path / "answer.parquet"
    write_batches(frames, merge.schema, file, json.dumps({"format": "gdi-allele-counts-answer/1"}), compression=1)
    server.answer = AnswerPage(**merge.page(file).json(), unit="allele", regions=merge.regions(file))
    server.rows = lambda start, count, span: merge.rows(file, start, count, span)
    server.sent.clear()
    begin = time.monotonic()
    page.open(server.url)
    page.wait("document.querySelector('output')?.textContent === 'rows 1 to 200 of 10,000,000'")
    first = time.monotonic() - begin
    button = "[...document.querySelectorAll('button')].find(b => b.textContent === 'Next')"
    begin = time.monotonic()
    page.evaluate(f"{button}.click()")
    page.wait("document.querySelector('output')?.textContent === 'rows 201 to 400 of 10,000,000'")
    later = time.monotonic() - begin
    begin = time.monotonic()
    region = "document.querySelector('select[aria-label=Chromosome]')"
    page.evaluate(f"Object.assign({region}, {{value: '4'}}).dispatchEvent(new Event('change', {{bubbles: true}}))")
    page.wait("document.querySelector('output')?.textContent === 'rows 1 to 200 of 2,000,000'")
    print(f"first paint {first:.2f} s, next page {later:.2f} s, a chromosome {time.monotonic() - begin:.2f} s")
    cells = page.evaluate("[...document.querySelectorAll('table tbody tr')].map(r => r.cells[0].textContent)")
    assert cells == ["4"] * 200
    assert max(server.sent) < 2_000_000, "no answer has more than a page of rows"
    assert page.problems == []
