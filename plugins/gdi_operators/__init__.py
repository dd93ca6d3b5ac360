"""Airflow's side of a federated run: the broker's hook, operators, triggers, links, the launchers of Snakemake pods,
and the progress page.
"""
