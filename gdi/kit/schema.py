"""A server's schema: its tables, its revisions, and what a migration of it did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

if TYPE_CHECKING:  # Alembic costs 11 MB, which a process that only reads does not need
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory


class SchemaError(Exception):
    """The database's schema is not one that this version can serve or upgrade; nothing was changed. The message says
    what to do.
    """


@dataclass(frozen=True)
class Schema:
    """A server's schema. `later`: tables of revision 0001 that older databases without a number may lack; any other
    table that is missing there is a fault.
    """

    program: str  # as in messages: token-broker
    folder: Path  # of the package with the revisions
    metadata: sa.MetaData  # the tables as the program uses them
    first: sa.MetaData  # those of revision 0001
    later: tuple[str, ...] = ()
    complete: Callable[[sa.Connection], None] = field(default=lambda _: None)  # makes what is no table: triggers

    @property
    def scripts(self) -> ScriptDirectory:
        """The revisions in `versions/`."""
        from alembic.script import ScriptDirectory

        return ScriptDirectory(self.folder)

    @property
    def version_table(self) -> str:
        """Where a database has its number: under a name of the program's own, for Airflow has an `alembic_version`."""
        return f"alembic_version_{self.program.replace('-', '_')}"

    def context(self, connection: sa.Connection) -> MigrationContext:
        """Alembic's view of the database."""
        from alembic.migration import MigrationContext

        return MigrationContext.configure(connection, opts={"version_table": self.version_table})

    @property
    def head(self) -> str:
        """The newest revision that this program knows."""
        return str(self.scripts.get_current_head())


@dataclass(frozen=True)
class MigrationResult:
    """What a migration did. `before`: "revision 0001", or what stood there instead of a number."""

    before: str
    after: str  # the revision's number
    changed: bool

    def __str__(self) -> str:
        return f"from {self.before} to {self.after}" if self.changed else f"already at {self.after}"
