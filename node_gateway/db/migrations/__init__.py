"""The revisions of the gateway's schema, run by gdi.kit.migrations: a new one for each change of a table."""
