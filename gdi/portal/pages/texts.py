"""The words of the pages: a file for each language in `texts/`, with the same keys; a missing one is an error."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

import yaml

from gdi.contracts.cohorts import CohortChoice, WrongCohortError, chosen

DEFAULT = "en"
LANGUAGES = {"en": "English", "de": "Deutsch"}


class Texts:
    """The words of one language. Called with a key, and the values of its {names}."""

    def __init__(self, language: str, words: Mapping[str, str]) -> None:
        self.language, self._words = language, words

    def __call__(self, key: str, **values: object) -> str:
        """KeyError for a key that is in no file: no page goes out with a hole."""
        return self._words[key].format(**values) if values else self._words[key]

    def keys(self) -> frozenset[str]:
        return frozenset(self._words)

    def sentence(self, text: str) -> str:
        """One of the API's own sentences in this language; as it is, where it is not known here."""
        return _translated(text, sentences_of(self.language), 3)

    def word(self, group: str, name: str) -> str:
        """The word for one of the API's own names (a state, say), or the name where it is a newer one."""
        return self._words.get(f"{group}.{name}", name)

    def cohort(self, value: object) -> str:
        """Whose numbers, in words: of a CohortChoice, or of a run's parameter, shown as it is if it is none."""
        try:
            choice = value if isinstance(value, CohortChoice) else chosen(value)
        except WrongCohortError:
            return json.dumps(value)[:200]
        t = self
        who = t("start.everybody")
        if choice.part == "level":
            who = f"{choice.split} = {choice.level}"
        elif choice.part is not None:
            who = t("start.complete", name=choice.variables or choice.table)
        return ", ".join([who, *(t("start.epoch", number=n) for n in sorted(set(choice.epochs.values())))])


@cache
def texts_of(language: str) -> Texts:
    """KeyError for a language that there is not."""
    if language not in LANGUAGES:
        raise KeyError(language)
    read = yaml.safe_load(files("gdi.portal.pages").joinpath("texts", f"{language}.yaml").read_text("utf-8"))
    words = {f"{group}.{name}": str(text) for group, entries in read.items() for name, text in entries.items()}
    return Texts(language, words)


@cache
def sentences_of(language: str) -> tuple[tuple[re.Pattern[str], str], ...]:
    """(what an English sentence looks like, its translation with the same {names}), in the order in which they are
    tried.
    """
    file = files("gdi.portal.pages").joinpath("texts", f"sentences.{language}.yaml")
    if not file.is_file():
        return ()
    return tuple((_pattern(source), target) for source, target in yaml.safe_load(file.read_text("utf-8")))


def _pattern(source: str) -> re.Pattern[str]:
    """A {name} stands for any text; `{where}` for none too."""
    parts = re.split(r"\{([a-z]+)\}", source)
    made = [
        f"(?P<{part}>.{'*' if part == 'where' else '+'}?)" if i % 2 else re.escape(part) for i, part in enumerate(parts)
    ]
    return re.compile("".join(made), re.DOTALL)


def _translated(text: str, known: tuple[tuple[re.Pattern[str], str], ...], depth: int) -> str:
    for pattern, target in known if depth and len(text) < 2000 else ():
        if found := pattern.fullmatch(text):
            parts = {name: _translated(part, known, depth - 1) for name, part in found.groupdict().items()}
            return "".join(parts[p] if i % 2 else p for i, p in enumerate(re.split(r"\{([a-z]+)\}", target)))
    return text


def choose(chosen: str | None, header: str) -> Texts:
    """What the person chose; else the first language of `Accept-Language` that there is; else English."""
    if chosen in LANGUAGES:
        return texts_of(chosen)
    for part in header[:500].lower().split(","):
        name, _, weight = part.strip().partition(";")
        language = name.strip().partition("-")[0]
        if language in LANGUAGES and weight.strip() not in ("q=0", "q=0.0"):
            return texts_of(language)
    return texts_of(DEFAULT)
