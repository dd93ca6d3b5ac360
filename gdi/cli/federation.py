"""`gdi demo | up | down | status`: a federation on this machine."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gdi.kit.secret_files import Secrets
from gdi.local_federation import preflight
from gdi.local_federation.demo import Options, run_demo
from gdi.local_federation.federation import COHORT, Federation
from gdi.local_federation.layout import Layout
from gdi.local_federation.newcomer import newcomer
from gdi.local_federation.sweep import sweep
from gdi.local_federation.tes.config import UNBOUNDED
from gdi.runner.sandbox import SandboxUnavailableError, find_maker, makers

DEFAULT_WORK = Path(".gdi")
MAX_NODES = 20
LIFETIME = 600  # seconds
STOP_PATIENCE = 60  # seconds until `gdi down` gives up
PLACEMENTS = ("node", "coordinator")
NOT_READY = 2  # exit code: this machine lacks something


def duration(text: str | int) -> int:
    """Seconds from `20s`, `5m`, `1h` or a number of seconds. typer.BadParameter."""
    match = re.fullmatch(r"(\d+)\s*([smh]?)", str(text).strip())
    if not match or not int(match[1]):
        raise typer.BadParameter(f"{text!r} is not a duration; write 20s, 5m or 1h")
    return int(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def _node_count(number: int) -> int:
    if not 1 <= number <= MAX_NODES:
        raise typer.BadParameter(f"a number of nodes between 1 and {MAX_NODES}")
    return number


def _placement(name: str) -> str:
    if name not in PLACEMENTS:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(PLACEMENTS)}")
    return name


def _maker(name: str | None) -> str | None:
    if name is not None and name not in makers.NAMES:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(makers.NAMES)}")
    return name


Cohort = Annotated[
    Path,
    typer.Option("--vcf", show_default="629 people of the 1000 Genomes Project", help="another cohort with genotypes"),
]
Nodes = Annotated[
    int, typer.Option("--nodes", callback=_node_count, help="split it by sample over so many nodes", metavar="N")
]
Lifetime = Annotated[
    int,
    typer.Option(
        "--token-lifetime", parser=duration, metavar="DURATION", show_default="10m", help="of access tokens, e.g. 20s"
    ),
]
SandboxMaker = Annotated[
    str | None,
    typer.Option(
        "--sandbox",
        callback=_maker,
        metavar="|".join(makers.NAMES),
        help=f"who makes the sandboxes (default: the first that works; also {makers.VARIABLE})",
    ),
]
Placement = Annotated[
    str,
    typer.Option("--placement", callback=_placement, metavar="|".join(PLACEMENTS), help="who starts Snakemake"),
]
Work = Annotated[Path, typer.Option("--work-dir", help="the federation's folder")]
KeptWork = Annotated[Path | None, typer.Option("--work-dir", help="keep everything here (default: a temporary folder)")]


def add_to(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    app.command("demo")(demo)
    app.command("up")(up)
    app.command("down")(down)
    app.command("status")(status)
    app.command("serve", hidden=True)(serve)


def demo(
    context: typer.Context,
    vcf: Cohort = COHORT,
    nodes: Nodes = 2,
    token_lifetime: Lifetime = LIFETIME,
    sandbox: SandboxMaker = None,
    work_dir: KeptWork = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="leave a summary")] = None,
    placement: Placement = "node",
    stop: Annotated[
        bool, typer.Option("--exit", help="stop after the answer (also where standard input is no terminal)")
    ] = False,
) -> int:
    """Start a federation, run the analysis, show the answer."""
    _choose(sandbox)
    if not _machine_is_ready(work_dir or Path("/tmp"), context.obj):  # noqa: S108
        return NOT_READY
    options = Options(
        vcf=vcf,
        nodes=nodes,
        token_lifetime=token_lifetime,
        work_dir=work_dir,
        json_file=json_file,
        exit=stop or not sys.stdin.isatty(),
        placement=placement,
        own_cohort=vcf != COHORT or nodes != 2,
    )
    return run_demo(options, context.obj, signal.pause)


def up(
    context: typer.Context,
    vcf: Cohort = COHORT,
    nodes: Nodes = 2,
    token_lifetime: Lifetime = LIFETIME,
    sandbox: SandboxMaker = None,
    work_dir: Work = DEFAULT_WORK,
    placement: Placement = "node",
) -> int:
    """Start a federation that stays."""
    console: Console = context.obj
    _choose(sandbox)
    work = work_dir.resolve()
    if _running(work):
        console.print(f"already up; see: gdi status --work-dir {work}")
        return 0
    if not _machine_is_ready(work, console):
        return NOT_READY
    work.mkdir(parents=True, exist_ok=True, mode=0o700)
    (work / "ready.json").unlink(missing_ok=True)
    command = [sys.executable, "-m", "gdi.cli.main", "serve", "--work-dir", str(work), "--vcf", str(vcf.resolve())]
    command += ["--nodes", str(nodes), "--token-lifetime", str(token_lifetime), "--placement", placement]
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
    newcomer(console, Layout.load(work), Secrets(work / "secrets"))
    console.print(f"stop it with: gdi down --work-dir {work}", soft_wrap=True)
    return 0


def serve(
    vcf: Cohort = COHORT,
    nodes: Nodes = 2,
    token_lifetime: Lifetime = LIFETIME,
    work_dir: Work = DEFAULT_WORK,
    placement: Placement = "node",
) -> int:
    """What `up` runs in the background."""
    work = work_dir.resolve()
    refresh = max(60, min(3600, token_lifetime * 3))
    federation = Federation(
        work, nodes=nodes, vcf=vcf, placement=placement, access_lifetime=token_lifetime, refresh_lifetime=refresh
    )
    with federation:
        federation.start()
        (work / "ready.json").write_text(
            json.dumps({"pid": os.getpid(), **{part: federation.layout.url(part) for part in ("portal", "airflow")}})
        )
        try:
            signal.pause()
        finally:
            (work / "ready.json").unlink(missing_ok=True)
    return 0


def down(context: typer.Context, work_dir: Work = DEFAULT_WORK) -> int:
    """Stop the federation in a work folder."""
    console: Console = context.obj
    work = work_dir.resolve()
    pid = _running(work)
    if pid is None:
        console.print(f"nothing is up in {work}")
        with contextlib.suppress(SandboxUnavailableError):
            sweep(find_maker())
        return 0
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_PATIENCE
    while _running(work) == pid:
        if time.monotonic() > deadline:
            console.print(
                Text(f"process {pid} did not end within {STOP_PATIENCE} s; its log: {work / 'launcher.log'}", "red")
            )
            return 1
        time.sleep(0.1)
    console.print("down")
    return 0


def status(context: typer.Context, work_dir: Work = DEFAULT_WORK) -> int:
    """Show its parts."""
    console: Console = context.obj
    work = work_dir.resolve()
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
    sentences = {line for file in work.glob(f"nodes/*/tes/state/{UNBOUNDED}") for line in file.read_text().splitlines()}
    for sentence in sorted(sentences):
        console.print(f"not bounded: {sentence}", style="yellow", markup=False)
    return 0


def _choose(sandbox: str | None) -> None:
    """All that is started finds the choice in its environment."""
    if sandbox:
        os.environ[makers.VARIABLE] = sandbox


def _machine_is_ready(work: Path, console: Console) -> bool:
    findings = preflight.check(work.resolve())
    for finding in findings:
        console.print(Text(f"missing: {finding.what}", "bold red"), soft_wrap=True)
        console.print(Text(f"  {finding.mend}"), soft_wrap=True)
    return not findings


def _running(work: Path) -> int | None:
    """The launcher's pid, where the federation in `work` is up."""
    try:
        pid = int(json.loads((work / "status.json").read_text())["launcher"])
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError, KeyError):
        return None
    return pid if b"serve" in command and str(work.resolve()).encode() in command else None
