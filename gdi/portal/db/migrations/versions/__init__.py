"""One file a revision, named by its number. Each also serves the programs of the revision before it."""
