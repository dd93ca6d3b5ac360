"""The page *Nodes* in Airflow's UI: each node as the broker last heard of it. One table, in Airflow's
dress.
"""

from __future__ import annotations

import html
import time

from fastapi import APIRouter, Request
from fastapi.responses import Response

from gdi.contracts.nodes import NodeStatus
from gdi_operators import ui
from gdi_operators.jobs.api import Unavailable, asking

router = APIRouter()
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>The nodes</title>
<link rel="stylesheet" href="{base}/assets/{version}/gdi.css">
<script type="module" src="{base}/assets/{version}/nodes.js"></script>
</head>
<body><main id="root" class="nodes"><h1>Nodes</h1>
{body}
</main></body>
</html>
"""
HEAD = ("Node", "State", "Last heard", "Starts Snakemake", "Orders", "Version", "Health", "What it does not allow")
WIDE = (4, 6, 7)  # columns of sentences, which may wrap
WORDS = {"up": "up", "away": "away", "never-seen": "never seen", "not-asked": "not asked"}


def life_of(node: NodeStatus) -> str:
    """Of a node that the coordinator starts pods at nothing is heard: its gateway judges each task."""
    return "not-asked" if node.placement == "coordinator" and node.life == "never-seen" else node.life


def row_of(node: NodeStatus, now: float) -> tuple[str, ...]:
    """The page's cells, as text."""
    orders = ", ".join(f"{count} {state}" for state, count in sorted(node.orders.items()))
    ill = [f"{part}: {what}" for part, what in sorted(node.health.items()) if what != "ok"]
    if node.clock_off is not None and abs(node.clock_off) > 5:
        ill.append(f"its clock is {abs(node.clock_off):.0f} s {'ahead' if node.clock_off > 0 else 'behind'}")
    free = "" if node.free_slots is None else f"{node.free_slots} free"
    return (
        node.node,
        WORDS[life_of(node)],
        _ago(node.seen_at, now),
        "the node" if node.placement == "node" else "the coordinator",
        ", ".join(text for text in (orders, free) if text),
        node.version,
        "; ".join(ill) or ("ok" if node.health else ""),
        " ".join(node.limits),
    )


def _ago(seen_at: float | None, now: float) -> str:
    if seen_at is None:
        return ""
    left = max(0.0, now - seen_at)
    for unit, name in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if left >= 2 * unit:
            return f"{left // unit:.0f} {name} ago"
    return f"{left:.0f} seconds ago"


@router.get("/nodes")
async def nodes(request: Request) -> Response:
    """For everyone who is signed in: what the broker tells each of its callers."""
    base = html.escape(str(request.scope.get("root_path", "")), quote=True)
    try:
        async with asking() as broker:
            found = (await broker.nodes()).nodes
    except Unavailable as error:
        body = f"<p>{html.escape(str(error))}</p>"
        return Response(PAGE.format(base=base, version=ui.version(), body=body), 503, media_type="text/html")
    now = time.time()
    rows = [_node(node, now) for node in found]
    heading = "".join(f'<th scope="col">{html.escape(text)}</th>' for text in HEAD)
    lead = '<p class="lead">To ask beforehand whether a run would be admitted, node by node, use <i>Check</i> at the'
    table = f"<table><thead><tr>{heading}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    body = (
        f'{lead} portal.</p><div class="scroll">{table}</div>' if rows else "<p>No node is enrolled at the broker.</p>"
    )
    return Response(PAGE.format(base=base, version=ui.version(), body=body), media_type="text/html")


def _node(node: NodeStatus, now: float) -> str:
    name, life, *texts = (html.escape(text) for text in row_of(node, now))
    cells = [f'<th scope="row">{name}</th>', f'<td class="life {life_of(node)}">{life}</td>']
    cells += [_cell(column, text) for column, text in enumerate(texts, 2)]
    return f"<tr>{''.join(cells)}</tr>\n"


def _cell(column: int, text: str) -> str:
    """`text` is HTML."""
    return f'<td class="wide">{text}</td>' if column in WIDE and text else f"<td>{text}</td>"
