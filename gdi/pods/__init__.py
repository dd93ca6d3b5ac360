"""Snakemake pods of Kubernetes as plain data, without Airflow and without a client: what a pod is made of, what it may
have, how it is stopped, how it ended. Who talks to a cluster (gdi_operators; a node's own agent) brings the calls.
"""
