"""Other people's workflows give what the local executor gives, or are refused by name: every case of
tests/cases/snakemake, over a real S3.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.bare_rig import Bare, bare  # noqa: F401
from tests.support.snakemake_cases import Case, cases

pytestmark = pytest.mark.long


@pytest.mark.parametrize("case", cases(), ids=lambda c: c.name)
def test_a_case_ends_as_with_the_local_executor(bare: Bare, case: Case, tmp_path: Path) -> None:
    prefix = bare.prefix()
    case.fill(bare, prefix)
    code, output = bare.run(case.lay_out(tmp_path), prefix, *case.args, environment=case.environment)
    case.check(bare, prefix, code, output)
