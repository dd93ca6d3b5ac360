"""The API's sentences in the pages' other languages: each ending of a run has one, and a stranger's words stay."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
import yaml

from gdi.contracts.orders import ORDER_REASONS
from gdi.contracts.parameters import mistakes
from gdi.contracts.problems import PROBLEMS
from gdi.contracts.run_endings import judge
from gdi.portal.pages.texts import LANGUAGES, kinds_of, texts_of
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


@pytest.mark.parametrize("language", OTHERS)
def test_every_problem_and_every_reason_of_a_node_is_said_by_its_kind(language: str) -> None:
    """docs/portal-api.md lists the problems that these pages can meet."""
    texts, known = texts_of(language), kinds_of(language)
    table = (FOLDER.parents[3] / "docs" / "portal-api.md").read_text().partition("## Errors")[2].partition("## ")[0]
    slugs = {slug for slug in re.findall(r"`([a-z]+(?:-[a-z]+)+)`", table) if slug in PROBLEMS} - {"unauthenticated"}
    assert len(slugs) > 25 and slugs <= set(known.problems), slugs - set(known.problems)
    assert set(known.problems) <= set(PROBLEMS) and set(known.reasons) == set(ORDER_REASONS)
    for slug, (what, todo) in known.problems.items():
        assert texts.problem(slug, "Quite new: 7.", "Do it.") == (what, todo, "Quite new: 7.")
    for reason, clause in known.reasons.items():
        assert texts.refusal("Quite new: 7.", reason) == (f"{clause}.", "Quite new: 7.")
        failed = f"node-b failed: the node refused: {reason}: Quite new. The other nodes are being stopped."
        assert clause in texts.sentence(failed) and "Quite new." in texts.sentence(failed)
    for sentence in SENTENCES.values():
        shown = f"{sentence[0].upper()}{sentence[1:]}."
        assert texts.sentence(shown) != shown, shown
        assert texts.sentence(f"EGAD1: {sentence}.") != f"EGAD1: {sentence}."
    assert texts.problem("too-many-grants", texts("problem.address"), "") == (texts("problem.address"), "", "")
    english = texts_of("en")
    assert english.problem("no-team", "You are in none.", "Go.") == ("You are in none.", "Go.", "")
    assert english.problem("run-unknown", "No run r-1.", "GET /v1/runs lists yours.")[1] == "Look under My runs."
    assert english.refusal("It said no.", "no-visa") == ("It said no.", "")


@pytest.mark.parametrize("language", OTHERS)
def test_what_is_wrong_with_a_form_is_said_in_the_language(language: str) -> None:
    schema = {
        "properties": {
            "n": {"type": "integer", "minimum": 3, "maximum": 5},
            "t": {"type": "string", "pattern": "^a$", "maxLength": 9},
            "e": {"enum": ["a", "b"]},
            "l": {"type": "array", "minItems": 1, "maxItems": 2, "uniqueItems": True},
        },
        "required": ["n"],
    }
    wrong = [{"n": 9}, {"n": 1}, {"n": "x"}, {}, {"n": 3, "t": "b"}, {"n": 3, "t": "b" * 20}]
    wrong += [{"n": 3, "e": "c"}, {"n": 3, "l": []}, {"n": 3, "l": [1, 2, 3]}, {"n": 3, "l": [1, 1]}]
    for values in wrong:
        (mistake,) = mistakes(schema, values)
        assert texts_of(language).sentence(mistake) != mistake, mistake


def test_words_of_strangers_stay_and_nothing_runs_long() -> None:
    german = texts_of("de")
    said = german.sentence("node-b failed: {why} of <b>line</b> 7. The other nodes are being stopped.")
    assert said == "node-b scheiterte: {why} of <b>line</b> 7. Die anderen Knoten werden angehalten."
    assert german.sentence("Something quite new.") == "Something quite new."
    assert german.sentence("x" * 5000) == "x" * 5000
    assert texts_of("en").sentence("The run ended well.") == "The run ended well."
    began = time.process_time()
    for hostile in ("a: " * 330, "x is " * 199, "a failed: " * 99, "A; " * 333, "the node refused: " * 55):
        german.sentence(hostile)
    assert time.process_time() - began < 2
    assert "no-visa" in SENTENCES and german.sentence("You have no visa for it.") == "Sie haben kein Visum dafür."
