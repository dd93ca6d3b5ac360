"""The words of the pages: a file for each language in `texts/`, with the same keys; a missing one is an error."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import yaml

from gdi.contracts.cohorts import CohortChoice, WrongCohortError, chosen

DEFAULT = "en"
DEPTH, LONGEST = 6, 1000  # sentences within sentences; characters of one that is looked at
LANGUAGES = {"en": "English", "de": "Deutsch"}


class Texts:
    """The words of one language. Called with a key, and the values of its {names}."""

    def __init__(self, language: str, words: Mapping[str, str]) -> None:
        self.language, self._words = language, words
        self._own = frozenset(words.values())

    def __call__(self, key: str, **values: object) -> str:
        """KeyError for a key that is in no file: no page goes out with a hole."""
        return self._words[key].format(**values) if values else self._words[key]

    def keys(self) -> frozenset[str]:
        return frozenset(self._words)

    def sentence(self, text: str) -> str:
        """One of the API's own sentences in this language; as it is, where it is not known here."""
        return _translated(text, self.language, DEPTH)

    def problem(self, slug: str, detail: str, action: str) -> tuple[str, str, str]:
        """What happened and what to do, in this language; and the API's own words where only the problem's kind is
        known here.
        """
        what, todo, known = self.sentence(detail), self.sentence(action), kinds_of(self.language).problems.get(slug)
        if known is None or detail in self._own:
            return what, todo, ""
        whole = what != detail or not known[0]
        return what if whole else known[0], known[1] if todo == action else todo, "" if whole else detail

    def refusal(self, sentence: str, reason: str) -> tuple[str, str]:
        """Why a node would not do it, in this language; and its own words where only the reason is known here."""
        text, known = self.sentence(sentence), kinds_of(self.language).reasons.get(reason)
        return (f"{known}.", sentence) if known and text == sentence else (text, "")

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


@dataclass(frozen=True)
class Kinds:
    """In one language: of each kind of problem what happened (empty: the API's own words) and what to do; of each
    reason of a node a clause."""

    problems: Mapping[str, tuple[str, str]]
    reasons: Mapping[str, str]


@cache
def kinds_of(language: str) -> Kinds:
    file = files("gdi.portal.pages").joinpath("texts", f"problems.{language}.yaml")
    if not file.is_file():
        return Kinds({}, {})
    read = yaml.safe_load(file.read_text("utf-8"))
    return Kinds({slug: (what, todo) for slug, (what, todo) in read["problems"].items()}, read["reasons"])


def _pattern(source: str) -> re.Pattern[str]:
    """A {name} stands for any text; `{where}` for none too."""
    parts = re.split(r"\{([a-z]+)\}", source)
    made = [
        f"(?P<{part}>.{'*' if part == 'where' else '+'}?)" if i % 2 else re.escape(part) for i, part in enumerate(parts)
    ]
    return re.compile("".join(made), re.DOTALL)


def _translated(text: str, language: str, depth: int) -> str:
    """A clause within a sentence is tried with a capital too, and may begin with a node's reason."""
    if not depth or not 0 < len(text) < LONGEST:
        return text
    reason, colon, rest = text.partition(": ")
    if colon and (known := kinds_of(language).reasons.get(reason)):
        return f"{known}: {_translated(rest, language, depth - 1)}"
    for pattern, target in sentences_of(language):
        if found := pattern.fullmatch(text) or pattern.fullmatch(text[0].upper() + text[1:]):
            parts = {name: _translated(part, language, depth - 1) for name, part in found.groupdict().items()}
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
