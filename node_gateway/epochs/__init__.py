"""Epochs: who is behind a dataset, frozen by the node's operator. The gateway keeps a keyed hash of each
person's id."""
