"""A file that is read into a model: every mistake names file and field, no value is shown, no file is read without
end.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field, TypeAdapter

from gdi.kit.models import FilePath, Frozen, Strict, load_model

LAUGHS = "a0: &a0 [x]\n" + "\n".join(f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 9)}]" for n in range(9))


class Mistake(Exception):
    """What the reader of the file wants to have raised."""


class Inner(Frozen):
    port: int = Field(default=1, ge=1, le=65535)


class Outer(Strict):
    secret: str = ""
    key_file: FilePath = Field(default=Path("key.pem"), validate_default=True)
    other: FilePath | None = None
    inner: Inner = Inner()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("inner: {port: 0}", "c.yaml: inner.port: Input should be greater than or equal to 1"),
        ("secret: [hunter2]", "c.yaml: secret: Input should be a valid string"),
        ("hunter: 2", "c.yaml: hunter: Extra inputs are not permitted"),
        ("- a", "c.yaml: document: Input should be a valid dictionary"),
        ("inner: {", "c.yaml is not YAML at line 2: did not find expected node content"),
        (b"\xff\xfe\x00", "c.yaml is not UTF-8 text"),
        ("secret: " + "x" * 2000, "c.yaml is larger than 1000 bytes"),
        ("[" * 900, "c.yaml is not YAML"),
        (None, "c.yaml cannot be read: No such file or directory"),
    ],
)
def test_a_mistake_names_setting_file_and_field_and_says_what_to_do(
    tmp_path: Path, content: str | bytes | None, told: str
) -> None:
    file = tmp_path / "c.yaml"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(Mistake) as caught:
        load_model(file, Outer, error=Mistake, name="GDI_FILE", hint="Look at the manual", most=1000)
    text = str(caught.value)
    assert text.startswith(f"GDI_FILE: {tmp_path}/{told}") and text.endswith(". Look at the manual")
    assert "hunter2" not in text and caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("other: " + "[" * 8000 + "]" * 8000, "c.yaml is not YAML"),  # libyaml: half a minute
        (LAUGHS, "with its aliases written out it is too large"),
        ("a: &a [*a]", "with its aliases written out it is too large"),
        ("a: &a {b: *a}", "with its aliases written out it is too large"),
    ],
    ids=["nested", "multiplied", "in itself", "in its own mapping"],
)
def test_a_small_file_cannot_keep_its_reader_busy(tmp_path: Path, content: str, told: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(content)
    began = time.thread_time()
    with pytest.raises(Mistake, match=told):
        load_model(file, TypeAdapter(dict[str, Any]), error=Mistake)
    assert time.thread_time() - began < 10, "seconds of CPU, so that other processes do not count"


def test_anchors_and_aliases_of_an_honest_file_are_read(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("a: &a {x: [1, 2]}\nb: *a\nc: {<<: *a, y: 1}")
    found = load_model(file, TypeAdapter(dict[str, Any]), error=Mistake)
    assert found == {"a": {"x": [1, 2]}, "b": {"x": [1, 2]}, "c": {"x": [1, 2], "y": 1}}


def test_a_json_file_is_read_as_json(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    file.write_text('{"secret": "a\\tb"}')
    assert load_model(file, Outer, error=Mistake).secret == "a\tb"
    for wrong in ("{secret: x}", "[" * 100_000):
        file.write_text(wrong)
        with pytest.raises(Mistake, match=r"run\.json is not JSON$"):
            load_model(file, Outer, error=Mistake)


@pytest.mark.parametrize("content", ["", "# nothing yet\n", "{}"])
def test_an_empty_file_has_the_defaults_and_relative_paths_start_at_its_folder(tmp_path: Path, content: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(content)
    found = load_model(file, Outer, error=Mistake)
    assert (found.key_file, found.other) == (tmp_path / "key.pem", None)
    file.write_text("key_file: /etc/key\nother: sub/x")
    found = load_model(file, Outer, error=Mistake)
    assert (found.key_file, found.other) == (Path("/etc/key"), tmp_path / "sub/x")
    assert Outer().key_file == Path("key.pem"), "without a file a path stays as it is"


@pytest.mark.parametrize("opened", ["[", "- "])
@pytest.mark.parametrize("levels", [7_000, 400_000])
def test_nesting_without_end_is_a_mistake_and_no_crash(tmp_path: Path, opened: str, levels: int) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(opened * levels)
    with pytest.raises(Mistake, match=r"c\.yaml"):
        load_model(file, Outer, error=Mistake)


def test_any_type_can_be_read(tmp_path: Path) -> None:
    file = tmp_path / "teams.yaml"
    file.write_text("a: {port: 5}")
    form: TypeAdapter[dict[str, Inner]] = TypeAdapter(dict[str, Inner])
    assert load_model(file, form, error=Mistake) == {"a": Inner(port=5)}


def test_a_frozen_model_does_not_change_and_no_model_repeats_what_it_was_given() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Inner().port = 7  # type: ignore[misc]
    wrong: Any = {"secret": ["hunter2"]}
    with pytest.raises(ValueError) as caught:
        Outer(**wrong)
    assert "hunter2" not in str(caught.value)
