"""What the run's Jobs tab shows: progress and jobs, read from the broker on the server's side."""
