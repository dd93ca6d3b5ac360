"""Puts the regions' statistics into one file: the same first two lines, then all variants."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    options = parser.parse_args()
    with options.out.open("wb") as out:
        for number, name in enumerate(options.files):
            with name.open("rb") as file:
                head = file.readline() + file.readline()
                if number == 0:
                    out.write(head)
                shutil.copyfileobj(file, out)


if __name__ == "__main__":
    main()
