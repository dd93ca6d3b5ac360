"""Tasks that the node itself sends to its TES: a recount for the reviewer, the list of persons for an epoch."""
