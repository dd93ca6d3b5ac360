"""`gdi beacon-files`: an answer of allele-frequency as the files that a GDI mini-node serves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
import yaml
from pydantic import ValidationError
from rich.console import Console
from rich.text import Text

from gdi.contracts.descriptor import Descriptor
from gdi.releases.allele_counts import beacon_files

MISTAKE = 2


def add_to(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("beacon-files")(write)


def write(
    context: typer.Context,
    answer: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="answer.parquet or answer.tsv of everybody")
    ],
    descriptor: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="the dataset's descriptor")],
    population: Annotated[str, typer.Option(metavar="XX", help="the population: a country's two capitals")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="the mini-node's data folder")],
    provider: Annotated[str, typer.Option(metavar="NAME", help="who provides the data")],
    women: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="the answer of the women")] = None,
    men: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="the answer of the men")] = None,
    catalog: Annotated[str, typer.Option(metavar="ID", help="the catalogue that lists it")] = "genome-of-europe",
) -> int:
    """Write the GDI frequency Beacon's files of a public dataset."""
    console: Console = context.obj
    answers = {population: answer}
    answers |= {f"{population}_F": women} if women else {}
    answers |= {f"{population}_M": men} if men else {}
    try:
        described = Descriptor.model_validate(yaml.safe_load(descriptor.read_text(encoding="utf-8")))
        rows = beacon_files.write(answers, described, out, provider, catalog)
    except (ValidationError, yaml.YAMLError) as error:
        console.print(Text(f"{descriptor} is no descriptor ({type(error).__name__})", "red"), soft_wrap=True)
        return MISTAKE
    except beacon_files.BeaconFilesError as error:
        console.print(Text(str(error), "red"), soft_wrap=True)
        return 1
    console.print(f"{rows} rows written below {out / described.dataset / described.assembly}", soft_wrap=True)
    return 0
