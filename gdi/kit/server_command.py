"""The command of a server with a database: `serve`, which is also what it does without a word, and `migrate`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gdi.kit.database import DatabaseAwayError
from gdi.kit.migrations import SchemaError
from gdi.kit.settings import SettingsError
from gdi.kit.tracing import mark_log_lines, start_export
from gdi.kit.version import installed

NOISY = ("httpx", "httpcore", "urllib3", "sqlalchemy", "aiosqlite", "alembic")


@dataclass(frozen=True)
class ServerCommand:
    """`name` is the program's, `distribution` the wheel's whose version it tells; `serve` and `migrate` give the exit
    code.
    """

    name: str
    distribution: str
    description: str
    epilog: str
    serve: Callable[[], Awaitable[int]]
    migrate: Callable[[], Awaitable[int]]

    def parser(self) -> argparse.ArgumentParser:
        top = argparse.ArgumentParser(prog=self.name, description=self.description, epilog=self.epilog)
        top.add_argument("--version", action="version", version=f"%(prog)s {installed(self.distribution)[1]}")
        commands = top.add_subparsers(dest="command", metavar="COMMAND")
        for name, what in (
            ("serve", "answer requests until SIGTERM or SIGINT (the default)"),
            ("migrate", "bring the database's schema to the newest revision, and end"),
        ):
            commands.add_parser(name, help=what, description=what)
        return top

    def run(self) -> int:
        """Exit code 2 where settings, files or what the server stands on are not fit: a line says which."""
        command = self.parser().parse_args().command
        form = "%(asctime)s %(levelname)s %(name)s %(message)s"
        logging.basicConfig(level=logging.INFO, format=form, stream=sys.stderr)
        mark_log_lines()
        for noisy in NOISY:
            logging.getLogger(noisy).setLevel(logging.WARNING)
        if command != "migrate":
            start_export()

        async def chosen() -> int:
            return await (self.migrate() if command == "migrate" else self.serve())

        try:
            return asyncio.run(chosen())
        except (SettingsError, SchemaError, DatabaseAwayError) as error:
            print(f"{self.name}: {error}", file=sys.stderr)
            return 2
