"""Figures of a federation whose nodes start Snakemake themselves (docs/benchmarks.md)."""
