"""`token-broker --help` says what it does and starts nothing; no word is `serve`, as charts and images have it."""

from __future__ import annotations

import sys

import pytest

from token_broker import main


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int | str | None, list[str]]:
    """(exit code, what was called)."""
    called: list[str] = []

    async def serve(_: object) -> int:
        called.append("serve")
        return 0

    async def migrate() -> int:
        called.append("migrate")
        return 0

    monkeypatch.setattr(main, "serve", serve)
    monkeypatch.setattr(main, "migrate", migrate)
    monkeypatch.setattr(main.Settings, "load", classmethod(lambda _: None))
    monkeypatch.setattr(sys, "argv", ["token-broker", *words])
    try:
        return main.main(), called
    except SystemExit as end:
        return end.code, called


def test_help_names_every_command_and_starts_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--help") == (0, [])
    shown = capsys.readouterr().out
    assert "usage: token-broker" in shown and all(word in shown for word in ("serve", "migrate", "TOKEN_BROKER_"))


@pytest.mark.parametrize(
    ("words", "called"), [([], ["serve"]), (["serve"], ["serve"]), (["migrate"], ["migrate"])], ids=str
)
def test_no_word_serves(monkeypatch: pytest.MonkeyPatch, words: list[str], called: list[str]) -> None:
    assert run(monkeypatch, *words) == (0, called)


def test_an_unknown_word_starts_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "migrat") == (2, [])
    assert "migrat" in capsys.readouterr().err
