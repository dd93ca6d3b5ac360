"""What `make demo` and `gdi up` print for a newcomer: the portal first, then logins that work, what to click, the
datasets.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

from rich.console import Console

from gdi.kit.secret_files import Secrets
from gdi.local_federation.aai.config import load
from gdi.local_federation.layout import Layout
from gdi.local_federation.newcomer import newcomer
from gdi.local_federation.parts import airflow, core
from gdi.local_federation.ports import Ports


def test_the_portal_comes_first_then_logins_that_work_then_what_to_click(tmp_path: Path) -> None:
    layout, secrets = Layout.make(tmp_path, 2, Ports()), Secrets(tmp_path / "secrets")
    airflow.configure(layout, secrets)
    text = io.StringIO()
    newcomer(Console(file=text, width=60), layout, secrets)
    lines = text.getvalue().splitlines()
    assert layout.url("portal") in lines[0] and "alice" in lines[0], "an address is never cut by the terminal's edge"
    begins = ["who", "researcher", "second researcher", "reviewer", "access committee", "operator", "1. ", "2. ", "3. "]
    assert [i for i, begin in enumerate(begins, 1) if not lines[i].startswith(begin)] == [], lines
    assert all(dataset in lines[len(begins) + 1] for node in layout.nodes for dataset in layout.datasets(node))
    users = {u.name: u for u in load(Path(core.aai(layout, secrets).argv[-1])).users}
    for line in lines[2:6]:
        name = "alice" if line.startswith("researcher") else "bob"
        assert f"{name}  " in line and users[name].password_file.read_text().strip() in line
    kept = json.loads((secrets.folder / "airflow-passwords.json").read_text())
    assert kept["admin"] in lines[6] and layout.url("airflow") in lines[6]
