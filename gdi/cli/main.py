"""`gdi`: analyses at a portal, the demo, a federation that stays (`up`, `down`, `status`), an author's tools."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from types import FrameType

import httpx
import typer
from rich.console import Console
from rich.text import Text

from gdi.cli import beacon, federation, workflow
from gdi.client import commands
from gdi.local_federation.cohort import CohortError
from gdi.local_federation.demo import RunFailed
from gdi.local_federation.portal import StartRefused
from gdi.local_federation.supervisor import ServiceFailed
from gdi.runner.sandbox import SandboxUnavailableError

INTERRUPTED = 130  # as a shell says of a program that Ctrl-C ended


def _end(code: int, **_: object) -> None:
    """A command returns its exit code."""
    raise typer.Exit(code)


app = typer.Typer(
    name="gdi",
    help="Federated analyses of genomes: at a portal, in the demo or a federation on this machine; an author's tools.",
    no_args_is_help=True,
    result_callback=_end,
    pretty_exceptions_enable=False,  # a traceback with local variables would show secrets
    context_settings={"help_option_names": ["-h", "--help"]},
)
federation.add_to(app)
commands.add_to(app)
beacon.add_to(app)
app.add_typer(workflow.app, name="workflow")


class Stopped(BaseException):
    """Ctrl-C or SIGTERM: not an error, so nothing may catch it as one."""


def invoke(arguments: Sequence[str], console: Console) -> int:
    """Runs one command and gives its exit code. Raises what the command raises.

    Exit codes: 0 done; 1 failed, the last lines say what; 2 the command line or this machine is not right.
    """
    try:
        typer.main.get_command(app).main(list(arguments), prog_name="gdi", obj=console)
    except SystemExit as end:  # how typer ends, also where the arguments are wrong
        return int(end.code or 0)
    return 0


def main(argv: Sequence[str] | None = None) -> None:
    """The program `gdi`: ends the process with the command's exit code."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    console = Console(highlight=False)
    name = next((a for a in arguments if not a.startswith("-")), "")

    def stop(signum: int, _: FrameType | None) -> None:
        for s in (signal.SIGINT, signal.SIGTERM):  # a second Ctrl-C must not break the clean-up
            signal.signal(s, signal.SIG_IGN)
        raise Stopped

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    try:
        sys.exit(invoke(arguments, console))
    except Stopped:
        console.print("stopped")
        sys.exit(INTERRUPTED if name == "demo" else 0)
    except (ServiceFailed, RunFailed, StartRefused, CohortError, SandboxUnavailableError, OSError) as error:
        console.print(Text(f"gdi {name} failed", "bold red"))
        console.print(Text(str(error)), soft_wrap=True)
        sys.exit(1)
    except httpx.TransportError as error:
        console.print(Text(f"gdi {name} failed", "bold red"))
        text = f"{_address(error)} did not answer ({type(error).__name__}). Its log is in the folder named above."
        console.print(Text(text), soft_wrap=True)
        sys.exit(1)


def _address(error: httpx.TransportError) -> str:
    """Whom the call went to."""
    try:
        return f"{error.request.url.host}:{error.request.url.port}"
    except RuntimeError:  # raised where the error carries no request
        return "a server"


if __name__ == "__main__":
    main()
