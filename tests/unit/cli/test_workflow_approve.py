"""`gdi workflow approve`: a reviewer's signature beside the workflow, which changes nothing of its digest and counts
for this version only.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from gdi.cli.main import app
from gdi.contracts import approval
from gdi.contracts.workflow_files import load
from gdi.kit.jose import SigningKey, TokenError
from gdi.kit.secret_files import write_private

WORKFLOWS = Path(__file__).parents[3] / "workflows"


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    shutil.copytree(WORKFLOWS / "allele-frequency", tmp_path / "catalogue" / "allele-frequency")
    return tmp_path / "catalogue"


def approve(catalogue: Path, key: Path, *more: str) -> tuple[int, str]:
    arguments = ["workflow", "approve", "allele-frequency", "--key", str(key), "--catalogue", str(catalogue), *more]
    result = CliRunner().invoke(app, arguments, obj=Console(width=1000))
    return result.exit_code, result.output


def test_a_signature_counts_for_this_version_and_leaves_its_digest(catalogue: Path, tmp_path: Path) -> None:
    key = SigningKey.generate()
    file = write_private(tmp_path / "ann.pem", key.pem())
    before = load(catalogue / "allele-frequency")
    code, output = approve(catalogue, file)
    assert code == 0, output
    entry = load(catalogue / "allele-frequency")
    assert entry.digest == before.digest and not entry.stale
    (token,) = approval.read(entry.folder)
    wanted = approval.claims_for(entry.workflow, entry.digest, "")
    approval.check(token, "ann", key.jwk(), wanted)
    with pytest.raises(TokenError):
        approval.check(token, "ann", SigningKey.generate().jwk(), wanted)
    with pytest.raises(TokenError):
        approval.check(token, "ann", key.jwk(), wanted.model_copy(update={"digest": "sha256:" + "0" * 64}))
    policy = yaml.safe_load(output.partition("policy:\n")[2])
    assert policy["workflows"] == [{"approved_by": "ann"}] and "d" not in policy["approvers"][0]["key"]


def test_two_reviewers_sign_and_each_has_one_line(catalogue: Path, tmp_path: Path) -> None:
    for name in ("ann", "ben", "ann"):
        assert approve(catalogue, write_private(tmp_path / f"{name}.pem", SigningKey.generate().pem()))[0] == 0
    assert len(approval.read(catalogue / "allele-frequency")) == 2


def test_a_key_that_others_may_read_and_a_loose_parameter_are_refused(catalogue: Path, tmp_path: Path) -> None:
    open_key = tmp_path / "open.pem"
    open_key.write_bytes(SigningKey.generate().pem())
    open_key.chmod(0o644)
    assert approve(catalogue, open_key)[0] == 1
    entry = catalogue / "allele-frequency" / "workflow.yaml"
    document = yaml.safe_load(entry.read_text())
    document["parameters"]["command"] = {"type": "string", "title": "Command", "default": ""}
    entry.write_text(yaml.safe_dump(document))
    code, output = approve(catalogue, write_private(tmp_path / "ann.pem", SigningKey.generate().pem()))
    assert code == 1 and "parameters.command may be any text" in output.replace("\n", " ")


@pytest.mark.parametrize(
    ("schema", "bounded"),
    [
        ({"type": "integer"}, True),
        ({"type": "string", "enum": ["a"]}, True),
        ({"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,20}$"}, True),
        ({"type": "array", "items": {"type": "string", "pattern": "^[0-9]+$"}}, True),
        ({"type": "string"}, False),
        ({"type": "string", "pattern": "[a-z]+"}, False),
        ({"type": "string", "pattern": "^.*$"}, False),
        ({"type": "string", "pattern": "^[^a]$"}, False),
        ({"type": "string", "pattern": "^a$|b"}, False),
        ({"type": "string", "pattern": "^[a-z ]+$"}, False),
        ({"type": "array", "items": {"type": "string"}}, False),
        ({"type": ["string", "null"]}, False),
        ({"type": "object"}, False),
        ({"type": "object", "additionalProperties": {"type": "number"}}, False),
        ({"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False}, True),
        ({}, False),
    ],
)
def test_a_text_is_bounded_by_an_enum_or_an_anchored_pattern(schema: dict[str, object], bounded: bool) -> None:
    workflow = load(WORKFLOWS / "allele-frequency").workflow.model_copy(update={"parameters": {"x": schema}})
    assert approval.loose_parameters(workflow) == ([] if bounded else ["x"])


@pytest.mark.parametrize("folder", sorted(p.parent.name for p in WORKFLOWS.glob("*/workflow.yaml")))
def test_no_workflow_of_the_catalogue_takes_any_text(folder: str) -> None:
    assert approval.loose_parameters(load(WORKFLOWS / folder).workflow) == []
