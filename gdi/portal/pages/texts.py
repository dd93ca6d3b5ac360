"""The words of the pages: a file for each language in `texts/`, with the same keys; a missing one is an error."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files

import yaml

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

    def word(self, group: str, name: str) -> str:
        """The word for one of the API's own names (a state, say), or the name where it is a newer one."""
        return self._words.get(f"{group}.{name}", name)


@cache
def texts_of(language: str) -> Texts:
    """KeyError for a language that there is not."""
    if language not in LANGUAGES:
        raise KeyError(language)
    read = yaml.safe_load(files("gdi.portal.pages").joinpath("texts", f"{language}.yaml").read_text("utf-8"))
    words = {f"{group}.{name}": str(text) for group, entries in read.items() for name, text in entries.items()}
    return Texts(language, words)


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
