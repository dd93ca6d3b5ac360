"""A table as a report that is kept: as CSV for programs and spreadsheets, as PDF for people. Whatever is in it may be a
stranger's text.
"""

from __future__ import annotations

import asyncio
import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from starlette.responses import Response

# A spreadsheet would compute a cell that begins so; one that takes `;` for the separator, as where the comma is of
# numbers, also what follows a `;`: a dataset's id may have both.
FORMULA = re.compile(r"(^|[;\t\r\n])(?=[=+\-@\t\r])")
MOST_IN_PDF, MOST_IN_CSV = 2000, 20_000  # rows: 2,000 take about four seconds of CPU as PDF
CELL = 300  # characters of a cell in the PDF


@dataclass(frozen=True)
class TableReport:
    """`facts`: what stands above the table, as name and value. `widths`: of the columns, in relation to each other."""

    title: str
    facts: Sequence[tuple[str, str]]
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    widths: Sequence[int]


async def download(report: TableReport, kind: Literal["csv", "pdf"], name: str) -> Response:
    """The report as a file that a browser keeps as `name`, without the ending."""
    make, media_type = (as_csv, "text/csv; charset=utf-8") if kind == "csv" else (as_pdf, "application/pdf")
    headers = {
        "Content-Disposition": f'attachment; filename="{name}.{kind}"',
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }
    return Response(await asyncio.to_thread(make, report), media_type=media_type, headers=headers)


def as_csv(report: TableReport) -> bytes:
    """RFC 4180 in UTF-8, columns named in the first line. A cell that a spreadsheet would take for a formula begins
    with an apostrophe, what follows a `;` too.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(report.columns)
    writer.writerows([FORMULA.sub(r"\1'", cell) for cell in row] for row in report.rows)
    return out.getvalue().encode()


def as_pdf(report: TableReport) -> bytes:
    """A4, landscape, with page numbers. Characters beyond Windows-1252, which PDF's own fonts have, are written as
    U+XXXX: nothing is lost, and no font has to be carried along.
    """
    from fpdf import FPDF  # only processes that make reports load it
    from fpdf.fonts import FontFace

    class Numbered(FPDF):
        def footer(self) -> None:
            self.set_y(-12)
            self.set_font("Helvetica", size=8)
            self.cell(0, 6, f"{_latin(report.title)}, page {self.page_no()} of {{nb}}", align="C")

    pdf = Numbered(orientation="landscape", format="A4")
    pdf.set_title(_latin(report.title))
    pdf.set_margin(12)
    pdf.set_auto_page_break(True, margin=16)
    pdf.add_page()
    pdf.set_font("Helvetica", "B", 16)
    pdf.cell(0, 10, _latin(report.title), new_x="LMARGIN", new_y="NEXT")
    pdf.set_font("Helvetica", size=9)
    for name, value in report.facts:
        pdf.multi_cell(0, 5, _latin(f"{name}: {value}"), new_x="LMARGIN", new_y="NEXT")
    pdf.ln(3)
    pdf.set_font("Helvetica", size=7)
    bold = FontFace(emphasis="BOLD", fill_color=(232, 235, 240))
    with pdf.table(
        col_widths=tuple(report.widths), headings_style=bold, text_align="LEFT", line_height=3.6, padding=1
    ) as table:
        for row in (report.columns, *report.rows):
            table.row([_latin(cell)[:CELL] for cell in row])
    return bytes(pdf.output())


def _latin(text: str) -> str:
    return "".join(_character(one) for one in text)


def _character(one: str) -> str:
    if not one.isprintable():
        return " "
    try:
        one.encode("cp1252")
    except UnicodeEncodeError:
        return f"[U+{ord(one):04X}]"
    return one
