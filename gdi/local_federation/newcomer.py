"""What somebody who has just started a federation on this machine is told: where to go, as whom, what to click."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from gdi.kit.secret_files import Secrets
from gdi.local_federation.layout import Layout
from gdi.local_federation.parts import airflow, core


def newcomer(console: Console, layout: Layout, secrets: Secrets) -> None:
    """The portal's address first, then the logins that work, the way to an answer, the datasets."""
    portal = layout.url("portal")
    console.print(
        Text.assemble("Open ", (portal, "bold"), " and sign in as alice: that is the portal."), soft_wrap=True
    )
    rows = [("who", "name", "password", "where"), *logins(layout, secrets)]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    for number, row in enumerate(rows):  # an address that is cut by a terminal's edge cannot be clicked
        line = "  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[3]])
        console.print(Text(line, style="dim" if number == 0 else ""), soft_wrap=True)
    for number, step in enumerate(
        (
            "Datasets: alice may use all of them, bob none.",
            "Workflows, Use this workflow, Check, tick \u201cI consent\u201d, Start: the run goes on before your eyes.",
            "When it is done: the picture, the table, the files; Run again; Every month. My consents: take it back.",
        ),
        1,
    ):
        console.print(Text(f"{number}. {step}"), soft_wrap=True)
    places = "; ".join(f"{node} holds {', '.join(layout.datasets(node))}" for node in layout.nodes)
    console.print(Text(f"datasets: {places}"), soft_wrap=True)
    console.print(Text(f"in a terminal: gdi login --portal {portal}"), soft_wrap=True)
    console.print(
        Text(f"for your own portal: OIDC client {core.SANDBOX} at {layout.issuer}, docs/portal-api.md, A sandbox"),
        soft_wrap=True,
    )
    console.print(Text(f"for programs: {portal}/docs, GA4GH WES: {portal}/ga4gh/wes/v1"), soft_wrap=True)


def logins(layout: Layout, secrets: Secrets) -> list[tuple[str, str, str, str]]:
    """(who, name, password, where) of each login that works."""
    people = {name: secrets.read(f"user-{name}", size=9) for name in ("alice", "bob")}
    return [
        ("researcher", "alice", people["alice"], layout.url("portal")),
        ("second researcher, without access", "bob", people["bob"], layout.url("portal")),
        ("reviewer at each node", "bob", people["bob"], f"{layout.gateway_url(layout.nodes[0])}/review"),
        ("access committee", "bob", people["bob"], f"{layout.url('portal')}/committee"),
        ("operator", "admin", airflow.password_of(secrets, "admin"), f"{layout.url('airflow')} (Airflow)"),
    ]
