"""The words of `node-gateway`: serve (the default), and what the node's operator does by hand. On SQLite a command that
writes needs the gateway to be stopped.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import typer

from gdi.kit.jose import SigningKey
from gdi.kit.migrations import MigrationResult, when_reachable
from gdi.kit.secret_files import write_private
from gdi.kit.version import installed
from node_gateway import audit_command, explanation, processes
from node_gateway.audit import Audit
from node_gateway.audit_search import AuditRefused
from node_gateway.context import Gateway
from node_gateway.data import nginx
from node_gateway.db.copy import copy_from
from node_gateway.db.store import GatewayDatabase
from node_gateway.descriptors import Descriptors
from node_gateway.epochs import command as epochs
from node_gateway.epochs import genotypes
from node_gateway.epochs.persons import PersonsError
from node_gateway.opened_database import open_database
from node_gateway.own_tasks import command as own_tasks
from node_gateway.own_tasks.persons import PersonsWish
from node_gateway.release import command as releases
from node_gateway.settings import DatabaseSettings, Settings

app = typer.Typer(
    name="node-gateway",
    help="The one door of a node: tasks, data, workspace and releases, under the node's own policy.",
    epilog="Settings are environment variables NODE_GATEWAY_… (docs/contracts.md); secrets are in files that they"
    " name.",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,  # a traceback with local variables would show secrets
    rich_markup_mode=None,
    add_completion=False,
)
epoch_app = typer.Typer(
    help="Open and list epochs. An epoch freezes who is behind a dataset; a group of people that two epochs do not"
    " share must be empty or large: else their releases, subtracted, tell about few people.",
    no_args_is_help=True,
)
cohort_app = typer.Typer(help="Look at cohorts: what a run may name of an epoch.", no_args_is_help=True)
ledger_app = typer.Typer(help="What left this node; mark numbers that are wrong.", no_args_is_help=True)
for name, group in (("audit", audit_command.app), ("epoch", epoch_app), ("cohort", cohort_app), ("ledger", ledger_app)):
    app.add_typer(group, name=name)

DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and change nothing.")]
Dataset = Annotated[str, typer.Argument(metavar="DATASET")]
OneDataset = Annotated[str | None, typer.Argument(metavar="DATASET", help="All datasets if not given.")]
Cohort = Annotated[str, typer.Argument(metavar="COHORT", help="As `cohort list` names it.")]
Files = Annotated[list[Path] | None, typer.Argument(metavar="FILE…", help="VCF or VCF.gz of the same samples.")]
OfDataset = Annotated[str | None, typer.Option("--dataset", metavar="DATASET", help="Whose people the node lists.")]
State = Annotated[bool, typer.Option("--state", help="How its task stands, and what it found; sends none.")]
LISTED = "With the people whom the node listed by itself: `epoch persons --dataset`. The gateway stays up."
Listed = Annotated[bool, typer.Option("--listed", help=LISTED)]
Out = Annotated[Path | None, typer.Option(metavar="FILE", help="Where the ids are written, for --persons.")]
File = Annotated[Path, typer.Argument(metavar="FILE")]
FROM = "Then copy a gateway's SQLite file into the database, which has to be empty; stop the gateways before."
Source = Annotated[Path | None, typer.Option("--from", metavar="FILE", help=FROM)]
PolicyPath = Annotated[Path | None, typer.Argument(metavar="POLICY", help="The one in force if not given.")]
Folder = Annotated[Path | None, typer.Argument(metavar="FOLDER", help="`datasets` beside it if not given.")]
PERSONS = "Its people, one id a line. The ids are not kept, only keyed hashes."
Persons = Annotated[Path | None, typer.Option(metavar="FILE", help=PERSONS)]
SAMPLES = "The descriptor's sample table, decrypted, TSV or Parquet: people, splits, variable sets and tables."
Samples = Annotated[Path | None, typer.Option(metavar="FILE", help=SAMPLES)]
LEAST = "The fewest people by whom cohorts may differ; the descriptor's, or 20."
MinDifference = Annotated[int | None, typer.Option(metavar="N", min=2, help=LEAST)]
LEAVE = "Where few people left, others leave with them, chosen by a keyed hash; they stay out."
SAME = "what left before the first epoch was of exactly these people; only the operator knows"
SamePeople = Annotated[bool, typer.Option("--same-people", help=SAME)]
OthersLeave = Annotated[bool, typer.Option("--others-leave", help=LEAVE)]
Listen = Annotated[str, typer.Option(metavar="ADDRESS", help="Where nginx listens for the TES: 127.0.0.1:8090")]
Authorities = Annotated[Path, typer.Option(metavar="FILE", help="Who may sign the archive's certificate (https).")]
Into = Annotated[Path | None, typer.Option(metavar="FILE", help="Written there, mode 0600, instead of printed.")]
Release = Annotated[int, typer.Argument(metavar="RELEASE", help="Its number in `ledger list`.")]
Reason = Annotated[str, typer.Option(help="What readers are told.", metavar="TEXT")]


def _version(wanted: bool) -> None:
    if wanted:
        print(f"node-gateway {installed('gdi-node-gateway')[1]}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")]


@app.callback(invoke_without_command=True)
def _top(context: typer.Context, version: Version = False) -> None:
    if context.invoked_subcommand is None:
        processes.serve()


@app.command("serve")
def _serve() -> None:
    """Answer requests until SIGTERM or SIGINT (the default)."""
    processes.serve()


@app.command("agent")
def _agent() -> None:
    """Ask the broker for work and start Snakemake here (policy: `placement: node`), until SIGTERM or SIGINT."""
    processes.serve_agent()


@app.command("init-key")
def _init_key(file: File) -> None:
    """Make the node's signing key (mode 0600, unless it exists) and print its public JWK for the broker's enrolment."""
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
            opened.write(SigningKey.generate().pem())
    except FileExistsError:
        pass
    print(json.dumps(SigningKey.from_pem(file.read_bytes()).jwk()))


@app.command("migrate")
def _migrate(source: Source = None) -> None:
    """Bring the database's schema to this version's, say from which revision to which it went, and end; serving does it
    too.
    """
    code = asyncio.run(_migrated(DatabaseSettings.load(), source))
    if code:
        raise typer.Exit(code)


@app.command("check")
def _check(policy: PolicyPath = None, datasets: Folder = None) -> None:
    """Say in plain sentences what policy and descriptors of datasets allow, and name each wrong field."""
    if policy is None:
        settings = Settings.load()
        policy, datasets = settings.policy_file, settings.datasets_folder
    sentences, wrong = explanation.check(policy, datasets or policy.parent / "datasets")
    print("\n".join(sentences))
    for mistake in wrong:
        print(f"Wrong: {mistake}", file=sys.stderr)
    if wrong:
        raise typer.Exit(1)


@app.command("nginx-config")
def _nginx(listen: Listen, authorities: Authorities = nginx.AUTHORITIES, into: Into = None) -> None:
    """Print the configuration of an nginx that carries whole files past this process. It holds a secret."""
    made = nginx.config(Settings.load(), listen, authorities)
    if into is None:
        print(made, end="")
    else:
        write_private(into, made)


@app.command("verify-audit", hidden=True)
def _verify_audit() -> None:
    """Until 0.2: `audit verify`."""
    print(f"{asyncio.run(_verified(Settings.load()))} entries, each follows the one before it")


@epoch_app.command("open")
def _open(
    dataset: Dataset,
    persons: Persons = None,
    samples: Samples = None,
    min_difference: MinDifference = None,
    others_leave: OthersLeave = False,
    same_people: SamePeople = False,
    listed: Listed = False,
    dry_run: DryRun = False,
) -> None:
    """Open the next epoch of a dataset. Where it would tell about few people it does not open, and you read which."""
    settings = Settings.load()
    if listed:
        wish = PersonsWish(
            min_difference=min_difference, others_leave=others_leave, same_people=same_people, dry_run=dry_run
        )
        print(own_tasks.open_(settings, dataset, wish))
        return
    described = Descriptors(settings.datasets_folder or settings.policy_file.parent / "datasets").of(dataset)
    key = SigningKey.from_pem(settings.key_file.read_bytes())
    request = epochs.Opening(dataset, persons, samples, min_difference, others_leave, described, same_people)
    _print(lambda database: epochs.open_(database, key, request, dry_run=dry_run))


@epoch_app.command("list")
def _epochs() -> None:
    """List all epochs: dataset, number, people, day."""
    _print(epochs.lines)


@epoch_app.command("persons")
def _persons(
    files: Files = None, out: Out = None, dataset: OfDataset = None, state: State = False, dry_run: DryRun = False
) -> None:
    """List the people of a dataset, and find ids that are one person (`duplicate-people`): by genotypes at 1,000 common
    sites. With --dataset the running gateway sends a task to the node's TES, and keeps the list for `epoch open
    --listed`; with files, which are decrypted VCF, it is done here. Ids are printed for duplicates only.
    """
    if dataset is not None:
        settings = Settings.load()
        if dry_run:
            print(f"A task over the VCF files of {dataset} would be sent to {settings.tes_url}. Nothing was changed.")
        else:
            print(own_tasks.look(settings, dataset) if state else own_tasks.send(settings, dataset))
        return
    if not files:
        raise PersonsError("give --dataset, or the files")
    text, good = genotypes.lines(files, out)
    print(text)
    if not good:
        raise typer.Exit(1)


@cohort_app.command("list")
def _cohorts(dataset: OneDataset = None) -> None:
    """List the cohorts that a run may name: wholes, levels of splits, variable sets and tables, with their people."""
    _print(lambda database: epochs.cohort_lines(database, dataset))


@cohort_app.command("compare")
def _compare(one: Cohort, other: Cohort) -> None:
    """Say how many people two cohorts share, and how many are in one of them only."""
    _print(lambda database: epochs.comparison(database, one, other))


@ledger_app.command("list")
def _ledger(dataset: OneDataset = None) -> None:
    """List releases: number, day, state, run, name, cohort, user."""
    _print(lambda database: releases.lines(database, dataset))


@ledger_app.command("retract")
def _retract(release: Release, reason: Reason, dry_run: DryRun = False) -> None:
    """Mark a release's numbers as wrong for their readers. The check still knows what left."""
    _print(lambda database: releases.retract(database, release, reason, dry_run=dry_run))


def _print(work: Callable[[GatewayDatabase], Awaitable[str]]) -> None:
    """What a command of the operator says."""

    async def done() -> str:
        database, _ = await open_database(DatabaseSettings.load())
        try:
            return await work(database)
        finally:
            await database.close()

    print(asyncio.run(done()))


async def _verified(settings: Settings) -> int:
    gateway = await Gateway.open(settings)
    try:
        return await gateway.audit.verify()
    finally:
        await gateway.close()


async def _migrated(settings: DatabaseSettings, source: Path | None) -> int:
    async def once() -> MigrationResult:
        database, outcome = await open_database(settings)
        await database.close()
        return outcome

    code = await when_reachable(once, "node-gateway", "NODE_GATEWAY_")
    if code or source is None:
        return code
    database, _ = await open_database(settings)
    try:
        counts = await copy_from(source, database)
        entries = await Audit(database).verify()
    finally:
        await database.close()
    rows = ", ".join(f"{name} {count}" for name, count in counts.items())
    print(f"node-gateway: copied from {source}: {rows}; {entries} audit entries follow each other", file=sys.stderr)
    return 0


def run() -> None:
    """The words of the command line; what cannot be is said in one line, and ends with exit code 1."""
    try:
        app(prog_name="node-gateway")
    except epochs.EpochRefused as refused:
        sys.exit(f"node-gateway: no epoch was opened:\n{refused}")
    except (PersonsError, releases.RetractionError, AuditRefused) as error:
        sys.exit(f"node-gateway: {error}")
