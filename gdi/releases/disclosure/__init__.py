"""The disclosure rules (docs/disclosure.md) as pure functions: no file, no database, no clock. Kinds of release and the
node's gateway use the same ones.
"""
