"""What `gdi workflow` gives the author of a workflow: init, check, lock, test. One verb a file."""
