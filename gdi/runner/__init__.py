"""The process launcher: Snakemake in sandboxes on one machine, without a cluster."""
