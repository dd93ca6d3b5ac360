"""What came of a run: read from the results folder, proven again, shown, and packed as an RO-Crate."""
