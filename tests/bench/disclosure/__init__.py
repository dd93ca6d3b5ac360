"""Figures of what leaves a node: `make bench-disclosure`."""
