"""The portal in a terminal: `gdi login | datasets | workflows | preflight | run | watch | runs | results | cancel |
grants | schedule`. `--json`: one JSON document on standard output and nothing else.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from gdi.client import completion, shown
from gdi.client.client import PortalClient
from gdi.client.command_line import AsJson, CohortOf, Datasets, Parameters, Run, Workflow, parameters_of, print_json
from gdi.client.exit_codes import DONE, ENDED_BADLY, EXIT_CODES, REFUSED, with_errors
from gdi.client.login import DeviceLogin, login_file
from gdi.client.schedule_command import schedule
from gdi.contracts.portal_api import RunEntry
from gdi.contracts.run_endings import ENDED
from gdi.kit.problem import ProblemError


def add_to(app: typer.Typer) -> None:
    """Adds the commands to a command line, under a heading of their own."""
    for name, command in COMMANDS.items():
        app.command(name, rich_help_panel="Analyses at a portal", epilog=EXIT_CODES)(with_errors(command))


def login(
    context: typer.Context,
    portal: Annotated[str, typer.Option("--portal", envvar="GDI_PORTAL", help="the portal's URL")],
    as_json: AsJson = False,
) -> int:
    """Sign in at a portal: a code here, your name and password in the browser."""
    console: Console = context.obj
    waiting = DeviceLogin.begin(portal)
    err = Console(stderr=True, highlight=False)
    err.print(f"Open [bold]{waiting.whole}[/bold]", soft_wrap=True)
    err.print(f"and confirm the code [bold]{waiting.code}[/bold] (or type it at {waiting.url}).", soft_wrap=True)
    with err.status("waiting for you"):
        found = waiting.wait()
    found.keep()
    with PortalClient.signed_in(found) as client:
        user = client.whoami()
    if as_json:
        print_json({"user": user, "portal": found.portal, "file": str(login_file())})
    else:
        console.print(f"signed in as {user} at {found.portal}", soft_wrap=True)
    return DONE


def logout(context: typer.Context) -> int:
    """Forget the login on this machine."""
    login_file().unlink(missing_ok=True)
    context.obj.print("signed out")
    return DONE


def datasets(context: typer.Context, as_json: AsJson = False) -> int:
    """What there is, what you may use now, and where to apply."""
    with PortalClient.signed_in() as client:
        found = client.datasets()
    print_json(found) if as_json else context.obj.print(shown.datasets(found))
    return DONE


def workflows(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(help="one of them, with its parameters", autocompletion=completion.workflow_names)
    ] = None,
    as_json: AsJson = False,
) -> int:
    """What can be run; with a name: its parameters."""
    with PortalClient.signed_in() as client:
        if name is None:
            every = client.workflows()
            print_json(every) if as_json else context.obj.print(shown.workflows(every))
            return DONE
        one = client.workflow(name)
    print_json(one) if as_json else context.obj.print(shown.workflow(one))
    return DONE


def preflight(
    context: typer.Context,
    workflow: Workflow,
    dataset: Datasets,
    parameter: Parameters = None,
    cohort: CohortOf = None,
    as_json: AsJson = False,
) -> int:
    """What would come of a start, node by node. Nothing starts."""
    with PortalClient.signed_in() as client:
        found = client.preflight(workflow, dataset, parameters_of(parameter, cohort))
    print_json(found) if as_json else context.obj.print(shown.preflight(found))
    return DONE if found.ready else REFUSED


def run(
    context: typer.Context,
    workflow: Workflow,
    dataset: Datasets,
    parameter: Parameters = None,
    cohort: CohortOf = None,
    consent_days: Annotated[
        float | None, typer.Option(help="give consent for so many days, where none covers it yet")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="give consent for this run only")] = False,
    key: Annotated[str | None, typer.Option(help="your name for this start: again is the same run")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="watch it until it ends")] = False,
    as_json: AsJson = False,
) -> int:
    """Start an analysis. Without consent that covers it, say --once or --consent-days."""
    with PortalClient.signed_in() as client:
        started = client.start(
            workflow, dataset, parameters_of(parameter, cohort), consent_days=consent_days, once=once, key=key
        )
        if wait:
            return _watch(client, context.obj, started.id, as_json)
    if as_json:
        print_json(started)
    else:
        context.obj.print(f"{started.id}  {started.sentence}", soft_wrap=True)
        context.obj.print(f"watch it with: gdi watch {started.id}", soft_wrap=True)
    return DONE


def watch(context: typer.Context, run: Run, as_json: AsJson = False) -> int:
    """Follow a run until it ends."""
    with PortalClient.signed_in() as client:
        return _watch(client, context.obj, run, as_json)


def _watch(client: PortalClient, console: Console, run: str, as_json: bool) -> int:
    last: RunEntry | None = None
    if as_json or not console.is_terminal:
        shown_last = ""
        for last in client.watch(run):
            if not as_json and last.sentence != shown_last:
                shown_last = last.sentence
                console.print(Text(f"{last.state}: {shown_last}"), soft_wrap=True)
    else:
        with Live(console=console, refresh_per_second=4) as live:
            for last in client.watch(run):
                live.update(shown.run(last))
    assert last is not None
    if as_json:
        print_json(last)
    elif last.state in ("succeeded", "empty"):
        console.print(f"its results: gdi results {run} --to FOLDER", soft_wrap=True)
    return DONE if last.state in ("succeeded", "empty") else ENDED_BADLY


def runs(
    context: typer.Context,
    state: Annotated[list[str] | None, typer.Option(help="only those that stand so; again for each")] = None,
    workflow: Annotated[
        str | None, typer.Option(help="only of this workflow", autocompletion=completion.workflow_names)
    ] = None,
    most: Annotated[int, typer.Option(min=1, max=10_000, help="at most so many")] = 20,
    as_json: AsJson = False,
) -> int:
    """Your runs, the newest first."""
    with PortalClient.signed_in() as client:
        found = list(client.runs(states=state or (), workflow=workflow, most=most))
    print_json(found) if as_json else context.obj.print(shown.runs(found))
    return DONE


def results(
    context: typer.Context,
    run: Run,
    to: Annotated[Path | None, typer.Option(help="save all files in this folder")] = None,
    as_json: AsJson = False,
) -> int:
    """What came of a run: what each node released, and the files."""
    with PortalClient.signed_in() as client:
        found = client.results(run)
        saved = []
        for file in found.files if to is not None else []:
            assert to is not None
            target = (to / file.name).resolve()
            if not target.is_relative_to(to.resolve()):
                raise ProblemError(502, "bad-answer", f"The file name {file.name[:100]!r} leads out of the folder.")
            saved.append(client.download(run, file.name, target))
    if as_json:
        print_json({**found.model_dump(mode="json"), "saved": [str(path) for path in saved]})
    else:
        context.obj.print(shown.results(found))
        for path in saved:
            context.obj.print(Text(str(path)), soft_wrap=True)
    return DONE if found.state not in ENDED or found.files else ENDED_BADLY


def cancel(context: typer.Context, run: Run, as_json: AsJson = False) -> int:
    """Stop a run: its tasks at the nodes are cancelled."""
    with PortalClient.signed_in() as client:
        found = client.cancel(run)
    print_json(found) if as_json else context.obj.print(Text(found.sentence), soft_wrap=True)
    return DONE


def grants(
    context: typer.Context,
    revoke: Annotated[
        str | None,
        typer.Option(metavar="GRANT", help="take this one back: its runs end", autocompletion=completion.grant_ids),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Your consents; take one back."""
    with PortalClient.signed_in() as client:
        found = [client.revoke_grant(revoke)] if revoke else client.grants()
    print_json(found) if as_json else context.obj.print(shown.grants(found))
    return DONE


COMMANDS: dict[str, Callable[..., int]] = {
    "login": login,
    "logout": logout,
    "datasets": datasets,
    "workflows": workflows,
    "preflight": preflight,
    "run": run,
    "watch": watch,
    "runs": runs,
    "results": results,
    "cancel": cancel,
    "grants": grants,
    "schedule": schedule,
}
app = typer.Typer(
    name="gdi-client",
    help="Analyses of genomic data where the data lies, at the portal of a federation.",
    no_args_is_help=True,
    result_callback=lambda code, **_: _end(code),
    pretty_exceptions_enable=False,  # a traceback with local variables would show tokens
    context_settings={"help_option_names": ["-h", "--help"]},
)
add_to(app)


def _end(code: int) -> None:
    raise typer.Exit(code)


def main() -> None:
    """The program `gdi-client`: these commands alone, without the federation on one machine that `gdi` has."""
    try:
        typer.main.get_command(app).main(prog_name="gdi-client", obj=Console(highlight=False))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
