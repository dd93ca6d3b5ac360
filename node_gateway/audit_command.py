"""`node-gateway audit …`: the command line of `audit_search`."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from node_gateway import audit_search
from node_gateway.opened_database import open_database
from node_gateway.settings import DatabaseSettings

app = typer.Typer(help="Check and search who asked for what, and what was refused.", no_args_is_help=True)
HEAD = "NUMBER:HASH, as an earlier call printed it: nothing may have been cut off since."
Head = Annotated[str | None, typer.Option(metavar="NUMBER:HASH", help=HEAD)]
Named = Annotated[str, typer.Option(metavar="TEXT")]
Part = Annotated[str, typer.Option(metavar="TEXT", help="A part of it, in any case.")]
Moment = Annotated[str, typer.Option(metavar="TIME", help="2026-11-30, 2026-11-30T08:00 (UTC), or 3h ago: 3h")]
Refused = Annotated[bool, typer.Option("--refused", help="Only what was refused.")]
Limit = Annotated[int, typer.Option(min=1, max=1_000_000, metavar="N")]
AsJson = Annotated[bool, typer.Option("--json", help="As stored, with each entry's hash.")]


@app.command("verify")
def _verify(head: Head = None) -> None:
    """Check that each entry follows the one before it. Keep the head that it prints where this machine cannot write."""

    async def done() -> str:
        database, _ = await open_database(DatabaseSettings.load())
        try:
            return await audit_search.verify(database, head)
        finally:
            await database.close()

    print(asyncio.run(done()))


@app.command("search")
def _search(
    run: Named = "",
    user: Part = "",
    dataset: Named = "",
    action: Named = "",
    text: Part = "",
    since: Moment = "",
    until: Moment = "",
    refused: Refused = False,
    limit: Limit = 1000,
    as_json: AsJson = False,
) -> None:
    """Print entries that have all that is given, oldest first."""
    first = audit_search.moment(since) if since else 0.0
    last = audit_search.moment(until) if until else float("inf")
    wanted = audit_search.AuditFilter(run, user, dataset, action, text, first, last, refused)

    async def done() -> None:
        database, _ = await open_database(DatabaseSettings.load())
        try:
            async for line in audit_search.search(database, wanted, limit=limit, as_json=as_json):
                print(line)
        finally:
            await database.close()

    asyncio.run(done())
