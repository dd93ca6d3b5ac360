"""The events of a run's Snakemake processes."""
