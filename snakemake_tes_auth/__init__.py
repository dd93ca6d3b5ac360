"""What the Snakemake side shares: run description, tokens, TES client, job -> task, workspace, events, the pod's entry
point.
"""
