"""`gdi workflow init | check | lock | test | approve | images`: what the author of a workflow needs, from the first
file to a run on a federation of one node; how a reviewer signs it; and how its images come to a node without internet.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, ParamSpec, cast

import typer
import yaml
from rich.console import Console
from rich.text import Text

from gdi.cli.authoring.check import Finding
from gdi.cli.authoring.check import check as findings_of
from gdi.cli.authoring.init import DEFAULT
from gdi.cli.authoring.init import init as write_entry
from gdi.cli.authoring.snakefile import lock_of, read_rules
from gdi.cli.authoring.templates import TEMPLATES
from gdi.cli.images import command as images_command
from gdi.contracts import approval
from gdi.contracts.workflow import CatalogueEntry, CatalogueError
from gdi.contracts.workflow_files import APPROVALS, LOCK, load
from gdi.kit.jose import SigningKey, issuer_of
from gdi.kit.secret_files import read_secret
from gdi.kit.settings import SettingsError

P = ParamSpec("P")
app = typer.Typer(no_args_is_help=True, help="For authors of workflows: init, check, lock, test.")
Catalogue = Annotated[
    Path, typer.Option("--catalogue", help="the folder of workflows", envvar="GDI_WORKFLOWS", show_envvar=True)
]
Name = Annotated[str, typer.Argument(help="a workflow's name or folder")]
Names = Annotated[list[str] | None, typer.Argument(help="workflows' names or folders (default: all of the catalogue)")]
KindOf = Annotated[str, typer.Option("--kind", help=f"the kind of what it releases: {', '.join(TEMPLATES)}")]
WORKFLOWS = Path("workflows")


def _shows_bad_entries(command: Callable[P, int]) -> Callable[P, int]:
    """The command with its bad entries shown: exit code 1."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> int:
        try:
            return command(*args, **kwargs)
        except CatalogueError as error:
            context = cast(typer.Context, kwargs["context"])  # typer gives it by name, as a class of its own
            context.obj.print(Text(str(error), "red"), soft_wrap=True)
            return 1

    return run


@app.command()
@_shows_bad_entries
def init(context: typer.Context, name: Name, catalogue: Catalogue = WORKFLOWS, kind: KindOf = DEFAULT) -> int:
    """Write the smallest good entry that releases something."""
    folder = write_entry(catalogue, name, kind)
    write_lock(load(folder))
    context.obj.print(
        f"{folder} is ready. Next: edit Snakefile and workflow.yaml, then gdi workflow check {name}", soft_wrap=True
    )
    return 0


@app.command()
@_shows_bad_entries
def check(context: typer.Context, names: Names = None, catalogue: Catalogue = WORKFLOWS) -> int:
    """Find what would go wrong at the nodes; exit code 1 where there is something."""
    console: Console = context.obj
    wrong = 0
    for folder in _folders(names, catalogue):
        try:
            entry = load(folder)
            findings = findings_of(entry, read_rules(entry))
        except CatalogueError as error:
            findings = [Finding("error", str(error), "", "")]
        for finding in findings:
            console.print(
                Text(f"{folder.name}: {finding.level}: {finding}", "red" if finding.level == "error" else "yellow"),
                soft_wrap=True,
            )
        wrong += sum(f.level == "error" for f in findings)
        if not findings:
            console.print(f"{folder.name}: good")
    return 1 if wrong else 0


@app.command()
@_shows_bad_entries
def lock(context: typer.Context, names: Names = None, catalogue: Catalogue = WORKFLOWS) -> int:
    """Write rules.lock: the rules, their order, the digest."""
    for folder in _folders(names, catalogue):
        changed = write_lock(load(folder))
        context.obj.print(f"{folder / LOCK}: {'written' if changed else 'is up to date'}", soft_wrap=True)
    return 0


@app.command()
@_shows_bad_entries
def approve(
    context: typer.Context,
    name: Name,
    key: Annotated[Path, typer.Option(metavar="FILE", help="your private key (PEM, P-256, mode 0600)")],
    key_id: Annotated[str, typer.Option(metavar="ID", help="its id in policies (default: the file's name)")] = "",
    reviewer: Annotated[str, typer.Option(metavar="NAME", help="who you are")] = "",
    days: Annotated[int, typer.Option(min=1, max=3650, help="how long the signature counts")] = 730,
    catalogue: Catalogue = WORKFLOWS,
) -> int:
    """Sign that you read this version; nodes that trust your key run it. Adds a line to `approvals`."""
    entry = load(_folders([name], catalogue)[0])
    if loose := approval.loose_parameters(entry.workflow):
        raise CatalogueError(
            f"{entry.folder}: parameters.{loose[0]} may be any text, so no node runs it: give it an enum, or an"
            " anchored pattern of letters, digits and ._:-"
        )
    try:
        signer = SigningKey.from_pem(read_secret(key, "--key"))
    except (ValueError, SettingsError) as error:
        raise CatalogueError(f"--key: {error}") from None
    key_id = key_id or key.stem
    claims = approval.claims_for(entry.workflow, entry.digest, reviewer or key_id)
    token = approval.sign(claims, signer, key_id, lifetime=days * 86400)
    kept = [line for line in approval.read(entry.folder) if approval.digest_in(line) == entry.digest]
    kept = [line for line in kept if issuer_of(line) != key_id]
    file = entry.folder / APPROVALS
    file.write_text("".join(f"{line}\n" for line in [*kept, token]))
    context.obj.print(f"{file}: {entry.digest} signed as {key_id}. In a node's policy:", soft_wrap=True)
    entry_ = {"id": key_id, "key": signer.jwk(), "may": [entry.workflow.name]}
    policy = {"workflows": [{"approved_by": key_id}], "approvers": [entry_]}
    context.obj.print(Text(yaml.safe_dump(policy, sort_keys=False)), soft_wrap=True)
    return 0


@app.command()
@_shows_bad_entries
def test(
    context: typer.Context,
    name: Name,
    catalogue: Catalogue = WORKFLOWS,
    values: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="a parameter, as YAML; may be repeated")
    ] = None,
    vcf: Annotated[Path | None, typer.Option(help="the node's cohort (default: the demo's)")] = None,
    timeout: Annotated[int, typer.Option(metavar="SECONDS")] = 900,
) -> int:
    """Run it on a federation of one node."""
    from gdi.cli.authoring.trial import trial  # a federation is a lot to load for a check

    console: Console = context.obj
    entry = load(_folders([name], catalogue)[0])
    errors = [f for f in findings_of(entry, read_rules(entry)) if f.level == "error"]
    for finding in errors:
        console.print(Text(str(finding), "red"), soft_wrap=True)
    if errors:
        return 1
    with tempfile.TemporaryDirectory(prefix="gdi-w-") as work:
        return trial(entry, _values(values or [], entry), Path(work), console, vcf=vcf, timeout=timeout)


@app.command()
@_shows_bad_entries
def images(
    context: typer.Context,
    name: Name,
    catalogue: Catalogue = WORKFLOWS,
    export: images_command.Export = None,
    bring: images_command.Import = None,
    source: images_command.From = None,
    into: images_command.Into = images_command.Target.containerd,
    registry: images_command.RegistryUrl = "",
    credentials: images_command.Credentials = None,
    plain_http: images_command.PlainHttp = False,
    roots: images_command.Roots = None,
    namespace: images_command.Namespace = "k8s.io",
    limit_gb: images_command.Limit = 100,
    key: images_command.Key = None,
) -> int:
    """Show which images it needs; carry them to a node without internet (--export, --import)."""
    entry = load(_folders([name], catalogue)[0])
    return images_command.run(
        entry.workflow.needs.images,
        context.obj,
        export=export,
        bring=bring,
        source=source,
        into=into,
        registry=registry,
        credentials=credentials,
        plain_http=plain_http,
        roots=roots,
        namespace=namespace,
        limit_gb=limit_gb,
        key=key,
    )


def write_lock(entry: CatalogueEntry) -> bool:
    """Writes the entry's rules.lock; False where it was as it has to be."""
    lock = lock_of(entry, read_rules(entry))
    if entry.lock == lock:
        return False
    part = entry.folder / f".{LOCK}.{os.getpid()}"
    part.write_text(lock.text())
    part.replace(entry.folder / LOCK)
    return True


def _folders(names: list[str] | None, catalogue: Path) -> list[Path]:
    if not names:
        found = sorted(p.parent for p in catalogue.glob("*/workflow.yaml"))
        if not found:
            raise CatalogueError(f"{catalogue} holds no workflow; name one, or give --catalogue")
        return found
    return [Path(name) if (Path(name) / "workflow.yaml").exists() else catalogue / name for name in names]


def _values(given: list[str], entry: CatalogueEntry) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise CatalogueError(f"--set {text!r}: write NAME=VALUE")
        values[name] = yaml.safe_load(value)
    if wrong := entry.workflow.check_parameters(values):
        raise CatalogueError("--set: " + "; ".join(wrong))
    return values
