"""One module for each kind of server in a local federation: what it needs, how it starts, when it is ready."""
