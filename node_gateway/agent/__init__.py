"""The node's own agent: asks the broker for work, decides by the node's policy, starts Snakemake, pushes releases."""
