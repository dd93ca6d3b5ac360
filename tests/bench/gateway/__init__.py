"""`make bench-gateway`."""
