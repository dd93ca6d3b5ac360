"""axe-core, the accessibility checker, from npm: run in the page, kept outside the repository, checked by its hash."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import Browser
from tests.support.debian import CACHE

VERSION = "4.11.0"
SHA256 = "e9e5863c33a874f09bc01acd9234b7e3c871479f5eef8802fa582544465e6d01"
RUN = """axe.run(document, {resultTypes: ['violations']}).then(found => found.violations.map(v =>
  ({id: v.id, impact: v.impact, help: v.help, where: v.nodes.slice(0, 5).map(n => n.html.slice(0, 200))})))"""


def axe_script(folder: Path) -> str:
    """axe.min.js. A skip where npm is missing or its registry is away."""
    kept = CACHE / f"axe-core-{VERSION}.min.js"
    if not kept.is_file():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("npm is not installed: apt-get install npm")
        command = [npm, "pack", f"axe-core@{VERSION}", "--silent"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            pytest.skip(f"the npm registry gives no axe-core: {done.stderr[-300:]}")
        with tarfile.open(fileobj=io.BytesIO((folder / f"axe-core-{VERSION}.tgz").read_bytes())) as archive:
            member = archive.extractfile("package/axe.min.js")
            assert member is not None
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(member.read())
    content = kept.read_bytes()
    assert hashlib.sha256(content).hexdigest() == SHA256, f"{kept} is not the axe-core that was looked at"
    return content.decode()


def serious(page: Browser, script: str) -> list[dict[str, Any]]:
    """What axe finds on the page that is serious or critical."""
    page.evaluate(script + ";0")
    return [v for v in page.evaluate(RUN) if v["impact"] in ("serious", "critical")]
