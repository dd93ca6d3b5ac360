"""`make bench-broker`."""
