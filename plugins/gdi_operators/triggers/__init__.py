"""What waits, with no worker: one trigger a file."""
