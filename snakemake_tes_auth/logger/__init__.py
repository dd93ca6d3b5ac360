"""The logger plugin: what Snakemake says becomes events of the run."""
