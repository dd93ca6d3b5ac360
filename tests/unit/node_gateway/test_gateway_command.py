"""`node-gateway --help` says what it does and starts nothing; no word is `serve`, as charts and images have it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from node_gateway import commands, main, processes


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int | str | None, list[str]]:
    """(exit code, what was called)."""
    called: list[str] = []

    def serve() -> None:
        called.append("serve")

    monkeypatch.setattr(processes, "serve", serve)
    monkeypatch.setattr(processes, "log_to_stderr", lambda: None)
    monkeypatch.setattr(commands.Settings, "load", classmethod(lambda _: None))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "argv", ["node-gateway", *words])
    try:
        main.main()
    except SystemExit as end:
        return end.code, called
    return 0, called


def test_help_names_every_command_and_starts_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--help") == (0, [])
    shown = capsys.readouterr().out
    assert "Usage: node-gateway" in shown
    assert all(
        word in shown
        for word in (
            "serve",
            "migrate",
            "init-key",
            "audit",
            "check",
            "epoch",
            "cohort",
            "ledger",
            "NODE_GATEWAY_",
        )
    )


@pytest.mark.parametrize("words", [[], ["serve"]], ids=str)
def test_no_word_serves(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    assert run(monkeypatch, *words) == (0, ["serve"])


def test_an_unknown_word_starts_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "migrat") == (2, [])
    assert "migrat" in capsys.readouterr().err


def test_a_key_is_made_once_and_its_public_half_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "node-key.pem"
    for _ in range(2):
        assert run(monkeypatch, "init-key", str(file)) == (0, [])
    assert file.stat().st_mode & 0o777 == 0o600
    first, second = capsys.readouterr().out.splitlines()
    assert first == second and "d" not in json.loads(first)
