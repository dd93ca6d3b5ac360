"""Pydantic models without unknown fields, and the one way to read one from a file. A mistake is told as one sentence
that names the file and the field.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, TypeAdapter, ValidationError, ValidationInfo

T = TypeVar("T")
MAX_BYTES = 1024 * 1024  # of a file, unless its reader says otherwise
MAX_MISTAKES = 20  # in one sentence
# libyaml, where there is one, is ten times faster (a catalogue is read at each parse of the DAGs). It follows nesting
# on the C stack, without end, and needs the square of the brackets that are open at once: a larger file, or one with
# more of them, gets Python's reader, which gives up.
_FAST = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
MAX_FAST, MAX_OPEN = 16 * 1024, 200
_BRACKETS = re.compile(r"[\[\]{}]")
MAX_VALUES = 200_000  # in a document with its aliases written out


class Strict(BaseModel):
    """A model that refuses unknown fields. Its errors do not repeat what was given: that may be a secret."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class Frozen(Strict):
    """A `Strict` model that nobody changes; hashable where its fields are."""

    model_config = ConfigDict(frozen=True)


def _beside(value: Path, info: ValidationInfo) -> Path:
    return value if info.context is None else Path(info.context["folder"]) / value


FilePath = Annotated[Path, AfterValidator(_beside)]
"""A path in a file that `load_model` reads: a relative one is taken from that file's folder; a default only where
the field is declared with `validate_default`.
"""


def mistakes(error: ValidationError) -> str:
    """`field.inner: what is wrong`, one for each mistake; `document` where it is no single field. Never shows a value
    that was given.
    """
    found = error.errors(include_url=False, include_context=False, include_input=False)
    lines = [
        f"{'.'.join(str(part) for part in one['loc']) or 'document'}: {one['msg']}" for one in found[:MAX_MISTAKES]
    ]
    return "; ".join(lines)


def read_document(
    path: Path, *, error: type[Exception], name: str = "", hint: str = "", most: int = MAX_BYTES
) -> Any:  # what YAML holds: any of its types
    """What a file of YAML, or of JSON where its name ends in `.json`, holds; at most `most` bytes of UTF-8.

    `error` names the file, what is wrong, before it `name` (the setting that names the file) and after it `hint`.
    """

    def fail(what: str) -> Exception:
        return error(f"{f'{name}: ' if name else ''}{path} {what}{f'. {hint}' if hint else ''}")

    form = "JSON" if path.suffix == ".json" else "YAML"
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
        if len(data) > most:
            raise fail(f"is larger than {most} bytes")
        text = data.decode()
        return json.loads(text) if form == "JSON" else _yaml(text)
    except OSError as problem:
        raise fail(f"cannot be read: {problem.strerror}") from None
    except UnicodeDecodeError:
        raise fail("is not UTF-8 text") from None
    except yaml.YAMLError as problem:
        raise fail(f"is not YAML{_place(problem)}") from None
    except (ValueError, RecursionError):
        raise fail(f"is not {form}") from None


def _yaml(text: str) -> Any:
    fast = len(text) <= MAX_FAST and _open_at_once(text) <= MAX_OPEN
    document = yaml.load(text, Loader=_FAST if fast else yaml.SafeLoader)  # noqa: S506  # both are safe
    if "&" in text and "*" in text and _values(document, {}) > MAX_VALUES:
        raise yaml.MarkedYAMLError(problem="with its aliases written out it is too large")
    return document


def _open_at_once(text: str) -> int:
    now = most = 0
    for bracket in _BRACKETS.findall(text):
        now = now + 1 if bracket in "[{" else max(0, now - 1)
        most = max(most, now)
    return most


def _values(value: object, known: dict[int, float]) -> float:
    """How many values there are with each alias written out; without end where one holds itself. `known`: by id."""
    if not isinstance(value, dict | list | set | tuple):
        return 1
    if id(value) not in known:
        known[id(value)] = float("inf")  # until it is counted
        parts = (part for pair in value.items() for part in pair) if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_values(part, known) for part in parts)
    return known[id(value)]


def load_model(
    path: Path,
    model: type[T] | TypeAdapter[T],
    *,
    error: type[Exception],
    name: str = "",
    hint: str = "",
    most: int = MAX_BYTES,
) -> T:
    """A file of YAML or JSON as `model`; an empty one has no fields. The arguments are `read_document`'s.

    `error` names the file and, for each mistake, the field.
    """
    document = read_document(path, error=error, name=name, hint=hint, most=most)
    adapter = model if isinstance(model, TypeAdapter) else TypeAdapter(model)
    try:
        return adapter.validate_python({} if document is None else document, context={"folder": path.resolve().parent})
    except ValidationError as problem:
        text = f"{f'{name}: ' if name else ''}{path}: {mistakes(problem)}"
        raise error(f"{text}{f'. {hint}' if hint else ''}") from None


def _place(problem: yaml.YAMLError) -> str:
    mark = getattr(problem, "problem_mark", None)
    what = str(getattr(problem, "problem", None) or "")
    return (f" at line {mark.line + 1}" if mark else "") + (f": {what[:200]}" if what else "")
