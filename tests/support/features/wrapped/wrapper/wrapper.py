from snakemake.shell import shell

shell("echo {snakemake.params.word} > {snakemake.output}")
