"""The script of docs/client.md and the notebook beside it, run as they stand there."""

from __future__ import annotations

import json
import re
import threading
import time
from pathlib import Path

import pytest

from gdi.client.login import StoredLogin
from gdi.contracts.run_endings import Standing
from gdi.local_federation.aai.running import running_aai
from tests.support.portal_server import PortalServer
from tests.support.processes import free_port

DOCUMENT = Path(__file__).parents[3] / "docs" / "client.md"
NOTEBOOK = DOCUMENT.parent / "examples" / "client.ipynb"


def test_the_documents_script_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (script,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.S)
    cells = [c for c in json.loads(NOTEBOOK.read_text())["cells"] if c["cell_type"] == "code"]
    assert all(c["outputs"] == [] and c["execution_count"] is None for c in cells), "committed without results"
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
            assert "verified" not in (said := capsys.readouterr().out) and "node-a 7 site True" in said
            names: dict[str, object] = {}
            for number, cell in enumerate(cells):
                exec(compile("".join(cell["source"]), f"{NOTEBOOK}:{number}", "exec"), names)
        finally:
            over.set()
            ending.join()
    assert "succeeded 7 sites were released." in said and "CHROM" in said
    told = capsys.readouterr().out
    assert "succeeded 7 sites were released." in told and "node-a 7 site verified" in told, told


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
