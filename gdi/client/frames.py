"""A table of the results as a DataFrame of polars or pandas, which are imported only here."""

from __future__ import annotations

import io
from typing import Any, Literal


def frame_of(content: bytes, library: Literal["polars", "pandas"]) -> Any:
    """`content`: tab-separated, the first line has the names; an empty cell (withheld) becomes null."""
    if library == "pandas":
        import pandas

        return pandas.read_csv(io.BytesIO(content), sep="\t", keep_default_na=False, na_values=[""])
    import polars

    return polars.read_csv(io.BytesIO(content), separator="\t", infer_schema_length=None)
