"""The process around one Snakemake: its run file, its outcome, its end."""
