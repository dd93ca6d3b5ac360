"""The API's sentences in the pages' other languages: each ending of a run has one, and a stranger's words stay."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from gdi.contracts.run_endings import judge
from gdi.portal.pages.texts import LANGUAGES, texts_of
from gdi.visas.visas import SENTENCES
from tests.support.run_endings import CASES

FOLDER = Path(__file__).parents[3] / "gdi" / "portal" / "pages" / "texts"
OTHERS = [language for language in LANGUAGES if language != "en"]


@pytest.mark.parametrize("language", OTHERS)
def test_every_ending_is_said_in_the_language(language: str) -> None:
    texts = texts_of(language)
    for name, facts, *_ in CASES:
        verdict = judge(facts)
        for sentence in filter(None, (verdict.sentence, verdict.next_step)):
            assert texts.sentence(sentence) != sentence, f"{name}: {sentence!r} has no pattern in sentences.{language}"


@pytest.mark.parametrize("language", OTHERS)
def test_a_translation_has_the_same_parts(language: str) -> None:
    for source, target in yaml.safe_load((FOLDER / f"sentences.{language}.yaml").read_text()):
        parts = [sorted(re.findall(r"\{([a-z]+)\}", text)) for text in (source, target)]
        assert parts[0] == parts[1] and len(set(parts[0])) == len(parts[0]), source


def test_words_of_strangers_stay_and_nothing_runs_long() -> None:
    german = texts_of("de")
    said = german.sentence("node-b failed: {why} of <b>line</b> 7. The other nodes are being stopped.")
    assert said == "node-b scheiterte: {why} of <b>line</b> 7. Die anderen Knoten werden angehalten."
    assert german.sentence("Something quite new.") == "Something quite new."
    assert german.sentence("x" * 5000) == "x" * 5000
    assert texts_of("en").sentence("The run ended well.") == "The run ended well."
    assert "no-visa" in SENTENCES and german.sentence("You have no visa for it.") == "Sie haben kein Visum dafür."
