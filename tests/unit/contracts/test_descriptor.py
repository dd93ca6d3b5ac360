"""A dataset's descriptor: each wrong field is named, and its schema is the one beside it."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from gdi.contracts.descriptor import SCHEMA_FILE, Descriptor, Phenotype, level_of, schema, schema_text
from gdi.kit.models import mistakes

PHENOTYPES = [
    {"column": "height", "type": "number", "unit": "cm", "minimum": 100, "maximum": 230, "bins": [100, 160, 180, 230]},
    {"column": "case", "type": "category", "categories": ["case", "control"]},
    {"column": "smoker", "type": "boolean"},
]
SAMPLES = {
    "file": "samples.tsv.c4gh",
    "format": "tsv",
    "person": "person",
    "country": "country",
    "phenotypes": PHENOTYPES,
}
WHOLE: dict[str, Any] = {
    "dataset": "EGAD1",
    "assembly": "GRCh38",
    "membership": "sensitive",
    "files": [{"path": "chr2.vcf.gz.c4gh", "format": "vcf", "regions": ["2", "3:1-500"], "index": "chr2.tbi.c4gh"}],
    "samples": SAMPLES,
    "splits": ["case", "country"],
    "variable_sets": {"growth": ["height", "smoker"]},
    "tables": {"smokers": ["smoker", "case"]},
    "use": ["DUO:0000042"],
}


def test_the_schema_beside_it_is_its_own() -> None:
    assert SCHEMA_FILE.read_text() == schema_text(), "write it anew: gdi.contracts.descriptor.schema_text()"
    jsonschema.validate(WHOLE, schema())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"membership": None}, "membership"),
        ({"membership": "open"}, "membership"),
        ({"membership": "public"}, "decision"),
        ({"decision": {"by": "DAC", "date": "2026-01-02"}}, "membership: public"),
        ({"zero": "show"}, "zero: show needs membership: public"),
        ({"assembly": "hg19"}, "assembly"),
        ({"splits": ["weight"]}, "splits names the column weight"),
        ({"splits": ["case", "country", "smoker"]}, "splits"),
        ({"tables": {"t": []}}, "at least one"),
        ({"variable_sets": {"v": ["height", "height"]}}, "each column once"),
        ({"dataset": "EGAD*"}, "names no people"),
        ({"files": [{"path": "../x", "format": "vcf"}]}, "files.0.path"),
        ({"samples": {**SAMPLES, "person": "height"}}, "ids are no phenotypes"),
        ({"samples": {**SAMPLES, "country": "case"}}, "described twice"),
        ({"memberships": "contract"}, "memberships"),
    ],
    ids=str,
)
def test_a_wrong_field_is_named(changes: dict[str, Any], message: str) -> None:
    given = {name: value for name, value in {**WHOLE, **changes}.items() if value is not None}
    with pytest.raises(ValidationError) as error:
        Descriptor.model_validate(given)
    assert message in mistakes(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"type": "category"}, "a category needs"),
        ({"type": "number"}, "minimum and maximum"),
        ({"type": "number", "minimum": 0, "maximum": 9, "bins": [0, 5, 5]}, "rise"),
        ({"type": "number", "minimum": 0, "maximum": 9, "bins": [0, 10]}, "between"),
        ({"type": "number", "minimum": 0, "maximum": 9, "categories": ["a", "b"]}, "categories"),
        ({"type": "boolean", "unit": "cm"}, "of a number"),
        ({"type": "category", "categories": ["a", "a"]}, "twice"),
    ],
    ids=str,
)
def test_a_wrong_phenotype_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as error:
        Phenotype.model_validate({"column": "c", **changes})
    assert message in mistakes(error.value)


def test_a_value_has_the_level_that_the_descriptor_names() -> None:
    samples = Descriptor.model_validate(WHOLE).samples
    assert samples is not None
    height, case, smoker = samples.phenotypes
    assert [level_of(height, text) for text in ("99", "100", "160", "230", "nan", "tall")] == [
        None,
        "100..160",
        "160..180",
        "180..230",
        None,
        None,
    ]
    assert [level_of(case, text) for text in ("case", "Case", "")] == ["case", None, None]
    assert [level_of(smoker, text) for text in ("True", "0")] == ["true", None]
