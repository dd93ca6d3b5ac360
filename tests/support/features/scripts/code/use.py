from pathlib import Path

from helper import shout

log = Path(snakemake.log[0])  # noqa: F821
log.write_text("said\n")
text = (
    Path(snakemake.input[0]).read_text()  # noqa: F821
    + shout(snakemake.params.word)  # noqa: F821
    + f"{snakemake.threads} {snakemake.rule} {snakemake.config.get('word')}\n"  # noqa: F821
)
Path(snakemake.output[0]).write_text(text)  # noqa: F821
