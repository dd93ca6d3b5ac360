"""Snakemake's own objects: rules, jobs and source files, read in one place."""
