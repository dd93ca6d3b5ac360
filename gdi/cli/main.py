"""`gdi`: the demo, a federation that stays (`up`, `down`, `status`), and the tools of a workflow's author
(`workflow`).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gdi.cli import workflow
from gdi.kit.secret_files import Secrets
from gdi.local_federation import preflight
from gdi.local_federation.cohort import CohortError
from gdi.local_federation.demo import Options, RunFailed, demo
from gdi.local_federation.federation import COHORT, Federation
from gdi.local_federation.parts import airflow
from gdi.local_federation.portal import StartRefused
from gdi.local_federation.supervisor import ServiceFailed
from gdi.local_federation.sweep import sweep
from gdi.runner.sandbox import SandboxUnavailableError, find_maker, makers

DEFAULT_WORK = Path(".gdi")


class Stopped(BaseException):
    """Ctrl-C or SIGTERM: not an error, so nothing may catch it as one."""


def seconds(text: str) -> int:
    """`20s`, `5m`, `1h` or a number of seconds."""
    match = re.fullmatch(r"(\d+)\s*([smh]?)", text.strip())
    if not match or not int(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration; write 20s, 5m or 1h")
    return int(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 20:
        raise argparse.ArgumentTypeError("a number of nodes between 1 and 20")
    return int(text)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="gdi", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    for name, what in (
        ("demo", "start a federation, run the analysis, show the answer"),
        ("up", "start a federation that stays"),
    ):
        sub = commands.add_parser(name, help=what, description=what)
        sub.add_argument(
            "--vcf",
            type=Path,
            default=COHORT,
            help="another cohort with genotypes (default: 629 people of the 1000 Genomes Project)",
        )
        sub.add_argument("--nodes", type=count, default=2, help="split it by sample over so many nodes (default 2)")
        sub.add_argument(
            "--token-lifetime",
            type=seconds,
            default=600,
            metavar="DURATION",
            help="of access tokens, e.g. 20s (default 10m)",
        )
        sub.add_argument(
            "--sandbox",
            choices=makers.NAMES,
            help=f"who makes the sandboxes (default: the first that works; also {makers.VARIABLE})",
        )
        sub.add_argument(
            "--work-dir",
            type=Path,
            help="keep everything here" + (" (default .gdi)" if name == "up" else " (default: a temporary folder)"),
        )
        if name == "demo":
            sub.add_argument("--json", dest="json_file", type=Path, metavar="FILE", help="leave a summary")
            sub.add_argument(
                "--exit", action="store_true", help="stop after the answer (also where standard input is no terminal)"
            )
    for name, what in (("down", "stop the federation in a work folder"), ("status", "show its parts")):
        sub = commands.add_parser(name, help=what, description=what)
        sub.add_argument("--work-dir", type=Path, default=DEFAULT_WORK)
    workflow.add_to(commands)
    serve = commands.add_parser("serve", help="what `up` runs in the background")
    serve.add_argument("--vcf", type=Path, default=COHORT)
    serve.add_argument("--nodes", type=count, default=2)
    serve.add_argument("--token-lifetime", type=seconds, default=600)
    serve.add_argument("--work-dir", type=Path, default=DEFAULT_WORK)
    return top


def main(argv: list[str] | None = None) -> None:
    arguments = parser().parse_args(argv)
    console = Console(highlight=False)
    if getattr(arguments, "sandbox", None):
        os.environ[makers.VARIABLE] = arguments.sandbox

    def stop(signum: int, _: FrameType | None) -> None:
        for s in (signal.SIGINT, signal.SIGTERM):  # a second Ctrl-C must not break the clean-up
            signal.signal(s, signal.SIG_IGN)
        raise Stopped

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    try:
        sys.exit(
            {"demo": _demo, "up": _up, "down": _down, "status": _status, "serve": _serve, "workflow": workflow.run}[
                arguments.command
            ](arguments, console)
        )
    except Stopped:
        console.print("stopped")
        sys.exit(130 if arguments.command == "demo" else 0)
    except (ServiceFailed, RunFailed, StartRefused, CohortError, SandboxUnavailableError, OSError) as error:
        console.print(Text(f"gdi {arguments.command} failed", "bold red"))
        console.print(Text(str(error)), soft_wrap=True)
        sys.exit(1)


def _check(work: Path, console: Console) -> bool:
    findings = preflight.check(work.resolve())
    for finding in findings:
        console.print(Text(f"missing: {finding.what}", "bold red"), soft_wrap=True)
        console.print(Text(f"  {finding.mend}"), soft_wrap=True)
    return not findings


def _demo(arguments: argparse.Namespace, console: Console) -> int:
    if not _check(arguments.work_dir or Path("/tmp"), console):  # noqa: S108
        return 2
    options = Options(
        vcf=arguments.vcf,
        nodes=arguments.nodes,
        token_lifetime=arguments.token_lifetime,
        work_dir=arguments.work_dir,
        json_file=arguments.json_file,
        exit=arguments.exit or not sys.stdin.isatty(),
        own_cohort=arguments.vcf != COHORT or arguments.nodes != 2,
    )
    return demo(options, console, signal.pause)


def _running(work: Path) -> int | None:
    """The launcher's pid, where the federation in `work` is up."""
    try:
        pid = int(json.loads((work / "status.json").read_text())["launcher"])
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError, KeyError):
        return None
    return pid if b"serve" in command and str(work.resolve()).encode() in command else None


def _up(arguments: argparse.Namespace, console: Console) -> int:
    work: Path = (arguments.work_dir or DEFAULT_WORK).resolve()
    if _running(work):
        console.print(f"already up; see: gdi status --work-dir {work}")
        return 0
    if not _check(work, console):
        return 2
    work.mkdir(parents=True, exist_ok=True, mode=0o700)
    (work / "ready.json").unlink(missing_ok=True)
    command = [
        sys.executable,
        "-m",
        "gdi.cli.main",
        "serve",
        "--work-dir",
        str(work),
        "--vcf",
        str(arguments.vcf.resolve()),
    ]
    command += ["--nodes", str(arguments.nodes), "--token-lifetime", str(arguments.token_lifetime)]
    with (work / "launcher.log").open("ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    with console.status("starting the federation"):
        while not (work / "ready.json").exists():
            if process.poll() is not None:
                console.print(Text((work / "launcher.log").read_text()[-4000:]))
                return 1
            time.sleep(0.2)
    ready = json.loads((work / "ready.json").read_text())
    console.print(
        f"up. Airflow: {ready['airflow']}  login: admin / {airflow.password_of(Secrets(work / 'secrets'), 'admin')}",
        soft_wrap=True,
    )
    console.print(f"stop it with: gdi down --work-dir {work}", soft_wrap=True)
    return 0


def _serve(arguments: argparse.Namespace, console: Console) -> int:
    work: Path = arguments.work_dir.resolve()
    refresh = max(60, min(3600, arguments.token_lifetime * 3))
    with Federation(
        work,
        nodes=arguments.nodes,
        vcf=arguments.vcf,
        access_lifetime=arguments.token_lifetime,
        refresh_lifetime=refresh,
    ) as federation:
        federation.start()
        (work / "ready.json").write_text(json.dumps({"pid": os.getpid(), "airflow": federation.layout.url("airflow")}))
        try:
            signal.pause()
        finally:
            (work / "ready.json").unlink(missing_ok=True)
    return 0


def _down(arguments: argparse.Namespace, console: Console) -> int:
    work: Path = arguments.work_dir.resolve()
    pid = _running(work)
    if pid is None:
        console.print(f"nothing is up in {work}")
        with contextlib.suppress(SandboxUnavailableError):
            sweep(find_maker())
        return 0
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 60
    while _running(work) == pid:
        if time.monotonic() > deadline:
            console.print(Text(f"process {pid} did not end within 60 s; its log: {work / 'launcher.log'}", "red"))
            return 1
        time.sleep(0.1)
    console.print("down")
    return 0


def _status(arguments: argparse.Namespace, console: Console) -> int:
    work: Path = arguments.work_dir.resolve()
    if _running(work) is None:
        console.print(f"nothing is up in {work}")
        return 1
    table = Table(box=None, pad_edge=False)
    for column in ("part", "state", "pid", "restarts", "log"):
        table.add_column(column)
    for name, row in json.loads((work / "status.json").read_text())["services"].items():
        colour = "green" if row["state"] == "ready" else "yellow"
        table.add_row(name, Text(str(row["state"]), colour), str(row["pid"] or ""), str(row["restarts"]), row["log"])
    console.print(table)
    return 0


if __name__ == "__main__":
    main()
