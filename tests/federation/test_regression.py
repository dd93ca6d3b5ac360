"""A whole run of `regression` over two nodes: the coefficients that one gets of all people in one table."""

from __future__ import annotations

import csv
import json
import math

import pytest

from tests.federation.driver import Driver
from tests.support.pooled_regression import pooled_fit

pytestmark = pytest.mark.long  # a minute beside the others


def test_a_linear_regression_of_two_nodes_is_that_of_the_pooled_people(driver: Driver) -> None:
    run = driver.start({}, workflow="regression")
    driver.succeed(run)
    folder = driver.layout.results / run.run
    rows = list(csv.DictReader((folder / "answer.tsv").open(), delimiter="\t"))
    truth = pooled_fit("linear", "ldl", ["age", "bmi"], [("sex", "male")])
    assert [(row["TERM"], row["LEVEL"]) for row in rows] == [tuple(name) for name in truth["terms"]]
    for row, beta, se in zip(rows, truth["beta"], truth["se"], strict=True):
        assert math.isclose(float(row["BETA"]), beta, rel_tol=1e-6), row["TERM"]
        assert math.isclose(float(row["SE"]), se, rel_tol=1e-6), row["TERM"]
        assert (row["NODES"], row["N"], row["REASON"]) == ("2", "629", "")
    summary = json.loads((folder / "releases.json").read_text())
    assert {one["node"] for one in summary["releases"]} == {"node-a", "node-b"} and not summary["missing"]
