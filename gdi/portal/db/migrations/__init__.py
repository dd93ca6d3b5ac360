"""The revisions of the portal's schema, run by gdi.kit.migrations: a new one for each change of a table."""
