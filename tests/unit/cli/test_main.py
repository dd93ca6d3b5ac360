"""The command `gdi`: exit codes, and no traceback where a part does not answer."""

from __future__ import annotations

import httpx
import pytest
from rich.console import Console

from gdi.cli import main


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["demo", "--nodes", "0"], "between 1 and 20"),
        (["demo", "--token-lifetime", "soon"], "not a duration"),
        (["demo", "--sandbox", "chroot"], "bubblewrap"),
        (["nothing"], "No such command"),
    ],
)
def test_a_wrong_command_line_ends_with_2_and_says_what_is_right(
    arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.invoke(arguments, Console()) == 2
    assert word in " ".join(capsys.readouterr().err.split())


def test_a_part_that_does_not_answer_is_named_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def away(arguments: object, console: object) -> int:
        raise httpx.ReadTimeout("timed out", request=httpx.Request("POST", "http://127.0.0.1:9/auth/token"))

    monkeypatch.setattr(main, "invoke", away)
    with pytest.raises(SystemExit) as end:
        main.main(["demo"])
    said = " ".join(capsys.readouterr().out.split())
    assert end.value.code == 1
    assert "gdi demo failed" in said and "127.0.0.1:9 did not answer (ReadTimeout)" in said
