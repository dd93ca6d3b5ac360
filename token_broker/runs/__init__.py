"""Runs: admission, progress and jobs."""
