"""A run's progress in a terminal: a row for each node and rule, with its time; plain lines where standard output is no
terminal.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gdi.contracts.progress import Progress, RuleProgress

MARK = {"waiting": ("·", "dim"), "running": ("●", "cyan"), "done": ("✓", "green"), "failed": ("✗", "red")}


def rule_state(rule: RuleProgress) -> str:
    if rule.failed:
        return "failed"
    if rule.total and rule.done >= rule.total:
        return "done"
    return "running" if rule.running or rule.done else "waiting"


def table(progress: Progress, now: float) -> Table:
    """Rules in the order they were planned; everything that came from a node is shown as plain text."""
    shown = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("node", "rule", "jobs", "time", ""):
        shown.add_column(column, justify="right" if column in ("jobs", "time") else "left", no_wrap=True)
    for node in progress.nodes:
        rules = [r for r in progress.rules if r.node == node.node]
        if not rules:
            shown.add_row(
                Text(node.node),
                Text(node.state, "dim"),
                "",
                "",
                Text(node.message[:80], "red" if node.state == "failed" else "dim"),
            )
        for number, rule in enumerate(rules):
            mark, style = MARK[rule_state(rule)]
            took = f"{(rule.ended_at or now) - rule.started_at:.0f} s" if rule.started_at else ""
            note = node.message[:80] if number == 0 and node.message else ""
            shown.add_row(
                Text(node.node if number == 0 else "", "bold"),
                Text(f"{mark} {rule.rule}", style),
                Text(f"{rule.done}/{rule.total}"),
                Text(took),
                Text(note, "red" if node.state == "failed" else "dim"),
            )
    return shown


class ProgressDisplay:
    """A context manager; `show` is called as often as there is something new."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.live = Live(console=console, refresh_per_second=4, transient=False) if console.is_terminal else None
        self._printed_lines: set[str] = set()

    def show(self, progress: Progress) -> None:
        if self.live is not None:
            self.live.update(table(progress, time.time()))
            return
        for rule in progress.rules:
            state = rule_state(rule)
            line = f"{rule.node:10} {rule.rule:20} {rule.done}/{rule.total} {state}"
            if state != "waiting" and line not in self._printed_lines:
                self._printed_lines.add(line)
                took = (
                    f" {(rule.ended_at or time.time()) - rule.started_at:.0f} s"
                    if rule.started_at and state == "done"
                    else ""
                )
                self.console.print(Text(line + took))
                sys.stdout.flush()

    def __enter__(self) -> ProgressDisplay:
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live is not None:
            self.live.stop()
