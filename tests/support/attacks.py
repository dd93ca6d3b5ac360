"""Attacks as programs over the real cohort: each names the rule that stops it, and what an honest user of the same node
gets. A switch turns one rule off.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

from gdi.kit.problem import ProblemError
from gdi.releases.allele_counts import node as kind_node
from gdi.releases.allele_counts import table
from gdi.releases.disclosure.rules import Rule
from gdi.releases.disclosure.vocabulary import KINDS
from node_gateway.epochs import admission, persons
from node_gateway.epochs import command as epochs
from node_gateway.epochs.command import EpochRefused
from node_gateway.release import budget, public, question, verdict
from node_gateway.release import service as release_service
from node_gateway.review.service import Reviews
from tests.support.disclosure_node import PEOPLE, DisclosureNode, cohort, rows_of

TARGET = 0  # the person whom everybody is after
Program = Callable[[DisclosureNode], Awaitable[list[str]]]
Twin = Callable[[DisclosureNode], Awaitable[int]]
REFUSED = (ProblemError, EpochRefused)


@dataclass(frozen=True)
class Attack:
    """`program` gives what it learnt, true sentences each; `twin` how many exact numbers an honest user gets."""

    name: str
    who: str  # author | user | pair
    rule: str
    program: Program
    twin: Twin


ATTACKS: list[Attack] = []


async def honest(node: DisclosureNode) -> int:
    """Everybody of a dataset is counted once."""
    node.describe("DS3")
    await node.open_epoch("DS3", [one + 5000 for one in PEOPLE])
    return len((await node.release("DS3", rows_of(PEOPLE), digest=GOOD)).exact())


GOOD = "sha256:" + "d" * 64


def attack(who: str, rule: str, twin: Twin = honest) -> Callable[[Program], Program]:
    """Registers the program under its own name."""

    def register(program: Program) -> Program:
        ATTACKS.append(Attack(program.__name__, who, rule, program, twin))
        return program

    return register


def truth(site: int, person: int = TARGET) -> int:
    return cohort()[site][1][person]


def genotypes(more: dict[Any, int], less: dict[Any, int], expected: Callable[[int], int]) -> list[str]:
    """Sites at which the difference of two answers is what only the target's data can say."""
    found = []
    for place, (site, _) in enumerate(cohort()):
        if site in more and site in less and more[site] - less[site] == expected(place):
            found.append(f"{site[1]}: {expected(place)}")
    return found


@contextmanager
def _pure(rule: Rule) -> Iterator[None]:
    usual = question.rules_of

    def rules_of(*args: Any, **kwargs: Any) -> Any:
        rules = usual(*args, **kwargs)
        return replace(rules, off=rules.off | {rule})

    with mock.patch.object(question, "rules_of", rules_of):
        yield


@contextmanager
def _other_people(node: DisclosureNode) -> Iterator[None]:
    usual = question.read

    async def read(*args: Any) -> Any:
        return replace(await usual(*args), listed=False)

    with mock.patch.object(release_service.question, "read", read):
        yield


@contextmanager
def _everything_once(node: DisclosureNode) -> Iterator[None]:
    with mock.patch.object(table, "_twice", lambda _: set()), mock.patch.object(table, "unfit", lambda _: {}):
        yield


@contextmanager
def switched_off(rule: str, node: DisclosureNode) -> Iterator[None]:
    """The node without this one rule; without both, where either of two (`one+other`) stops the attack."""
    if "+" in rule:
        with ExitStack() as stack:
            for one in rule.split("+"):
                stack.enter_context(switched_off(one, node))
            yield
        return
    if rule in set(Rule):
        with _pure(Rule(rule)):
            yield
        return
    simple: dict[str, list[tuple[object, str, Any]]] = {
        "opening": [(epochs, "small_parts", lambda *_: []), (epochs, "small_cohorts", lambda *_: [])],
        "levels": [(persons.splits, "levels", lambda of, _: _by_level(of)), (epochs, "small_cohorts", lambda *_: [])],
        "admission": [(admission, "_of_dataset", lambda *_: None)],
        "described": [(admission, "_of_dataset", lambda *_: None), (question, "rules_of", _rules_without(node))],
        "budget": [(budget.CohortBudget, "statistics", 10**9)],
        "budget-of-people": [(budget.membership, "most_spent", lambda *_: 0.0)],
        "run-share": [(budget, "read", _whole_share)],
        "waiting": [(Reviews, "needed", lambda *_: False)],
        "changed-files": [(question, "expect_unchanged", _nothing)],
        "recheck": [(Reviews, "_still_open", _nothing)],
        "rounding": [(public, "TOLD_FROM", 0), (public, "TOLD_TO", 1), (verdict, "shown", _all_withheld)],
        "order": [(table, "sorted", list)],
        "patterns": [(table, "_PATTERNS", {})],
        "arithmetic": [(table, "why_not_one", lambda _: "")],
        "level-kinds": [(admission, "KINDS_OF_LEVELS", KINDS), (verdict.ReleaseCheck, "_together", _no_levels)],
        "contigs": [(table, "unfit", lambda _: {})],
        "complete": [(kind_node, "NAMED", ("breakend",))],
    }
    if rule == "other-people":
        with _other_people(node):
            yield
    elif rule == "one-name":
        with _everything_once(node):
            yield
    elif rule in ("approval", "kinds"):  # what the operator writes
        node.permissive = True
        yield
    else:
        patches = [
            mock.patch.object(where, name, value, create=name == "sorted") for where, name, value in simple[rule]
        ]
        for one in patches:
            one.start()
        try:
            yield
        finally:
            for one in reversed(patches):
                one.stop()


def _by_level(of: Any) -> dict[str, set[Any]]:
    found: dict[str, set[Any]] = {}
    for person, level in of.items():
        found.setdefault(level, set()).add(person)
    return found


def _rules_without(node: DisclosureNode) -> Any:
    def rules_of(policy: Any, described: Any, **_: Any) -> Any:
        return question.Rules(policy.floor, policy.releases.max_rows)

    return rules_of


async def _whole_share(connection: Any, past: Any, run: str, _: float) -> Any:
    return await READ_BUDGET(connection, past, run, 1.0)


READ_BUDGET = budget.read


def _all_withheld(_half: Any, _left: Any, withheld: Any) -> Any:
    return withheld


async def _no_levels(*_: Any) -> frozenset[str]:
    return frozenset()


async def _nothing(*_: Any, **__: Any) -> int:
    return 0
