"""`gdi workflow init | check | lock | test`: what the author of a workflow needs, from the first file to a run on a
federation of one node.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.text import Text

from gdi.cli.authoring.check import Finding, check
from gdi.cli.authoring.init import init
from gdi.cli.authoring.snakefile import lock_of, read_rules
from gdi.contracts.workflow import LOCK, CatalogueEntry, CatalogueError, load


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `workflow` and its verbs to the command line."""
    top = commands.add_parser("workflow", help="for authors of workflows: init, check, lock, test")
    verbs = top.add_subparsers(dest="verb", required=True)
    known: dict[str, argparse.ArgumentParser] = {}
    for verb, what in (
        ("init", "write the smallest good entry"),
        ("check", "find what would go wrong at the nodes; exit code 1 where there is something"),
        ("lock", "write rules.lock: the rules, their order, the digest"),
        ("test", "run it on a federation of one node"),
    ):
        known[verb] = verbs.add_parser(verb, help=what, description=what)
        many = verb in ("check", "lock")
        known[verb].add_argument(
            "name",
            nargs="*" if many else None,
            help="a workflow's name or folder" + (" (default: all of the catalogue)" if many else ""),
        )
        known[verb].add_argument(
            "--catalogue",
            type=Path,
            default=Path(os.environ.get("GDI_WORKFLOWS") or "workflows"),
            help="default: GDI_WORKFLOWS or workflows/",
        )
    known["test"].add_argument(
        "--set",
        dest="values",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter, as YAML; may be repeated",
    )
    known["test"].add_argument("--vcf", type=Path, help="the node's cohort (default: the demo's)")
    known["test"].add_argument("--timeout", type=int, default=900, metavar="SECONDS")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Does what was asked; 0, or 1 with what is wrong."""
    try:
        return {"init": _init, "check": _check, "lock": _lock, "test": _test}[arguments.verb](arguments, console)
    except CatalogueError as error:
        console.print(Text(str(error), "red"), soft_wrap=True)
        return 1


def _folders(arguments: argparse.Namespace) -> list[Path]:
    names = arguments.name if isinstance(arguments.name, list) else [arguments.name]
    if not names:
        found = sorted(p.parent for p in arguments.catalogue.glob("*/workflow.yaml"))
        if not found:
            raise CatalogueError(f"{arguments.catalogue} holds no workflow; name one, or give --catalogue")
        return found
    return [Path(name) if (Path(name) / "workflow.yaml").exists() else arguments.catalogue / name for name in names]


def _init(arguments: argparse.Namespace, console: Console) -> int:
    folder = init(arguments.catalogue, arguments.name)
    write_lock(load(folder))
    console.print(
        f"{folder} is ready. Next: edit Snakefile and workflow.yaml, then gdi workflow check {arguments.name}",
        soft_wrap=True,
    )
    return 0


def _check(arguments: argparse.Namespace, console: Console) -> int:
    wrong = 0
    for folder in _folders(arguments):
        try:
            entry = load(folder)
            findings = check(entry, read_rules(entry))
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


def _lock(arguments: argparse.Namespace, console: Console) -> int:
    for folder in _folders(arguments):
        changed = write_lock(load(folder))
        console.print(f"{folder / LOCK}: {'written' if changed else 'is up to date'}", soft_wrap=True)
    return 0


def write_lock(entry: CatalogueEntry) -> bool:
    """Writes the entry's rules.lock; False where it was as it has to be."""
    lock = lock_of(entry, read_rules(entry))
    if entry.lock == lock:
        return False
    part = entry.folder / f".{LOCK}.{os.getpid()}"
    part.write_text(lock.text())
    part.replace(entry.folder / LOCK)
    return True


def _test(arguments: argparse.Namespace, console: Console) -> int:
    from gdi.cli.authoring.trial import trial  # a federation is a lot to load for a check

    folder = _folders(arguments)[0]
    entry = load(folder)
    errors = [f for f in check(entry, read_rules(entry)) if f.level == "error"]
    for finding in errors:
        console.print(Text(str(finding), "red"), soft_wrap=True)
    if errors:
        return 1
    with tempfile.TemporaryDirectory(prefix="gdi-w-") as work:
        return trial(
            entry, _values(arguments.values, entry), Path(work), console, vcf=arguments.vcf, timeout=arguments.timeout
        )


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
