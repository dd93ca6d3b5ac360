"""How a sample table's cell says that there is no value. Standard library only. Each workflow that reads such a table
carries this file, equal byte for byte.
"""

from __future__ import annotations

NO_VALUE = frozenset(
    (
        "",
        ".",
        "NA",
        "<NA>",
        "#NA",
        "N/A",
        "n/a",
        "#N/A",
        "#N/A N/A",
        "NaN",
        "-NaN",
        "nan",
        "-nan",
        "NULL",
        "null",
        "None",
    )
)
"""As pandas, R and spreadsheets write that there is no value; `none` may be a category."""
