import gzip

with gzip.open(snakemake.input[0], "rt") as vcf:  # noqa: F821
    n = sum(1 for _ in vcf)
with open(snakemake.log[0], "w") as log:  # noqa: F821
    log.write("counted\n")
with open(snakemake.output[0], "w") as out:  # noqa: F821
    out.write(f"{n}\n")
