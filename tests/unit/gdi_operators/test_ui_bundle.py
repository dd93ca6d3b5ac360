"""The pages' built script belongs to its sources: nobody edits one and forgets the other."""

from __future__ import annotations

import re

from gdi_operators import ui


def test_the_committed_bundle_was_built_from_the_committed_sources() -> None:
    built = (ui.DIST / "sources.sha256").read_text().strip()
    assert built == ui.digest(), (
        "plugins/gdi_operators/ui changed: run `npm ci && npm run build` there and commit dist/"
    )


def test_the_bundle_makes_no_markup_and_fetches_nothing_from_elsewhere() -> None:
    sources = "".join(p.read_text() for p in (ui.HERE / "src").rglob("*.ts*"))
    for risky in (
        "dangerouslySetInnerHTML",
        "innerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        "srcDoc",
    ):
        assert risky not in sources, f"{risky}: what nodes say is text, nothing may be made of it"
    addresses = set(re.findall(r"https?://[a-z0-9.-]+", sources + (ui.DIST / "gdi.css").read_text()))
    assert addresses == set()
    assert "resolved" not in (ui.HERE / "package-lock.json").read_text(), (
        "the lock names versions and checksums, no registry"
    )


def test_no_type_of_the_contracts_is_a_word_on_a_page() -> None:
    """Types leave no name in the script: one that is there is text that somebody reads."""
    names = re.findall(r"^export interface ([A-Z][a-z]+[A-Z]\w+)", (ui.HERE / "src" / "contract.ts").read_text(), re.M)
    bundle = (ui.DIST / "gdi.js").read_text()
    assert "ReleaseView" in names and [name for name in names if name in bundle] == []
