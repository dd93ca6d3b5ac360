"""Which columns of the genotype file are of which level of a split, or of people who are complete for some columns: by
the sample table. Who is in the table or the file alone is in none; the node compares how many people were counted with
its own list. Each workflow that reads genotypes of a cohort carries this file, equal byte for byte.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from bgzf import section_lines
from cohort_people import Question, columns_of, groups, rows
from vcf import VcfError, fail, parsed, read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("vcf", type=Path)
    parser.add_argument("samples", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--question", type=json.loads, required=True)
    parser.add_argument("--places", type=Path, help="of the file's sections: only the header is here")
    options = parser.parse_args()
    question: Question = options.question
    if options.places:
        given = parsed(section_lines(options.vcf, json.loads(options.places.read_text())[0]))
    else:
        given = read(options.vcf)
    try:
        names: Any = next(iter(given))
    except VcfError as error:
        fail(error)
    columns = list(dict.fromkeys([question["people"]["person"], *columns_of(question)]))
    of = groups(question, rows(options.samples, question["people"]["format"], columns))
    made: list[list[int]] = [[] for _ in question["all"]]
    for place, name in enumerate(names):
        for group in of.get(name, []):
            made[group].append(place)
    options.out.write_text(json.dumps(made) + "\n")


if __name__ == "__main__":
    main()
