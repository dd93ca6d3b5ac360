"""The script of docs/client.md, run as it stands there."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path

import pytest

from gdi.client.login import StoredLogin
from gdi.contracts.run_endings import Standing
from gdi.local_federation.aai.running import running_aai
from tests.support.portal_server import PortalServer, free_port

DOCUMENT = Path(__file__).parents[3] / "docs" / "client.md"


def test_the_documents_script_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (script,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.S)
    monkeypatch.setenv("GDI_LOGIN_FILE", str(tmp_path / "login.json"))
    with running_aai(tmp_path / "aai") as aai, PortalServer(tmp_path, aai, free_port()) as server:
        StoredLogin(server.url, "", "", aai.sign_in().access_token, "", time.time() + 600).keep()
        airflow = server.world.airflow
        over = threading.Event()

        def end_each_run() -> None:
            while not over.wait(0.3):
                for _, name in list(airflow.runs):
                    airflow.put(name, Standing(standing="succeeded", sentence="7 sites were released."), "success")

        ending = threading.Thread(target=end_each_run)
        ending.start()
        try:
            exec(compile(script, str(DOCUMENT), "exec"), {})
        finally:
            over.set()
            ending.join()
    said = capsys.readouterr().out
    assert "succeeded 7 sites were released." in said and "node-a 7 site True" in said and "CHROM" in said


def test_each_exit_code_is_documented() -> None:
    from gdi.client import commands, exit_codes

    codes = {int(c) for c in re.findall(r"^\| (\d) \|", DOCUMENT.read_text(), re.M)}
    assert codes == {
        exit_codes.DONE,
        exit_codes.FAILED,
        exit_codes.USAGE,
        exit_codes.SIGNED_OUT,
        exit_codes.REFUSED,
        exit_codes.ENDED_BADLY,
        exit_codes.NOT_THERE,
    }
    assert all(f"gdi {name}" in DOCUMENT.read_text() for name in commands.COMMANDS)
