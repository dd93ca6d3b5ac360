"""What Alembic runs for each of its commands: the revisions, on the connection that gdi.kit.migrations hands over."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=context.config.attributes["metadata"])
context.run_migrations()
