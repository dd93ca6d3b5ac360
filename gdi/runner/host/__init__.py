"""The process host: the embedded default's kubelet. It starts, watches and stops Snakemake pods as sandboxed local
processes.
"""
