"""Orders keep their promises whatever comes in which order: done once, fenced, ended for good."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gdi.contracts import order_table
from gdi.contracts.order_table import Order, OrderConflict
from gdi.contracts.orders import ENDED_ORDER, ORDER_STATES

LEASE = 10.0
STEPS = {
    "waiting": {"waiting", "taken", "cancelled", "expired"},
    "taken": {"taken", "running", "succeeded", "failed", "refused", "cancelled", "expired"},
    "running": {"running", "taken", "succeeded", "failed", "cancelled", "expired"},
    **{state: {state} for state in ENDED_ORDER},
}


def conflict(call: object, *arguments: object) -> str:
    with pytest.raises(OrderConflict) as caught:
        call(*arguments)  # type: ignore[operator]
    return caught.value.slug


class Orders(RuleBasedStateMachine):
    """One run's orders of one kind at one node, two agents who compete, a clock that only goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.orders, self.seen = 1000.0, dict[int, Order](), dict[int, Order]()
        self.held: dict[str, tuple[int, int]] = {}  # agent → (attempt, generation) as it believes
        self.done: dict[int, int] = {}  # attempt → how often an end was accepted as new

    def change(self, new: Order) -> None:
        old = self.orders.get(new.attempt)
        if old is not None:
            assert new.state in STEPS[old.state], (old, new)
            assert new.generation >= old.generation and new.body == old.body and new.nonce == old.nonce
            assert not old.cancelling or new.cancelling == old.cancelling
        self.orders[new.attempt] = new

    @rule(attempt=st.integers(1, 4), body=st.sampled_from("ab"), lasting=st.integers(-5, 60))
    def put(self, attempt: int, body: str, lasting: int) -> None:
        known = list(self.orders.values())
        new = Order(attempt, body, f"nonce {attempt}", self.now + lasting)
        try:
            changed = order_table.put(known, new, self.now)
        except OrderConflict as error:
            same = self.orders.get(attempt)
            assert (
                (error.slug == "order-differs" and same is not None and same.body != body)
                or (error.slug == "attempt-over" and max(self.orders) > attempt)
                or (error.slug == "order-late" and lasting <= 0)
            )
            return
        if attempt in self.orders:
            assert changed == []
        for one in changed:
            self.change(one)
        for number, order in self.orders.items():
            assert number >= attempt or order.over or order.cancelling

    @precondition(lambda self: self.orders)
    @rule(agent=st.sampled_from("xy"), data=st.data(), right=st.booleans())
    def take(self, agent: str, data: st.DataObject, right: bool) -> None:
        order = self.orders[data.draw(st.sampled_from(sorted(self.orders)))]
        earlier = [one for one in self.orders.values() if one.attempt < order.attempt]
        try:
            taken = order_table.take(order, earlier, order.nonce if right else "guess", self.now, LEASE)
        except OrderConflict:
            return
        assert right and (order.state == "waiting" or order.lease_until <= self.now) and order.deadline > self.now
        assert taken.generation == order.generation + 1
        self.change(taken)
        self.held[agent] = (order.attempt, taken.generation)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), state=st.sampled_from(ORDER_STATES))
    def report(self, data: st.DataObject, state: str) -> None:
        attempt, generation = self.held[data.draw(st.sampled_from(sorted(self.held)))]
        order = self.orders[attempt]
        try:
            after = order_table.report(order, generation, state, "", self.now, LEASE)  # type: ignore[arg-type]
        except OrderConflict as error:
            if error.slug == "order-fenced":
                assert generation < order.generation
            return
        assert generation == order.generation and state not in ("waiting", "taken", "expired")
        if not order.over and after.over:
            self.done[attempt] = self.done.get(attempt, 0) + 1
        self.change(after)

    @precondition(lambda self: self.orders)
    @rule(data=st.data(), why=st.sampled_from(["a person", "the run"]))
    def cancel(self, data: st.DataObject, why: str) -> None:
        order = self.orders[data.draw(st.sampled_from(sorted(self.orders)))]
        after = order_table.cancel(order, why)
        self.change(after)
        assert after.over or after.cancelling

    @rule(seconds=st.integers(1, 30))
    def wait(self, seconds: int) -> None:
        self.now += seconds
        for order in list(self.orders.values()):
            self.change(order_table.tick(order, self.now))

    @invariant()
    def ended_once(self) -> None:
        assert all(count == 1 for count in self.done.values())

    @invariant()
    def nothing_outlives_its_deadline(self) -> None:
        assert all(order_table.tick(order, order.deadline).over for order in self.orders.values())

    @invariant()
    def one_attempt_at_a_time(self) -> None:
        at_work = [o for o in self.orders.values() if o.state in ("taken", "running") and not o.cancelling]
        assert len(at_work) <= 1


Orders.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
test_orders = Orders.TestCase


def order(**changes: object) -> Order:
    return replace(Order(1, "a", "n", 100.0), **changes)  # type: ignore[arg-type]


def test_a_nonce_serves_once() -> None:
    taken = order_table.take(order(), [], "n", 0, LEASE)
    assert conflict(order_table.take, taken, [], "n", 1, LEASE) == "order-taken"
    done = order_table.report(taken, 1, "succeeded", "", 2, LEASE)
    assert conflict(order_table.take, done, [], "n", 50, LEASE) == "order-over"


def test_who_was_not_heard_of_is_fenced() -> None:
    first = order_table.take(order(), [], "n", 0, LEASE)
    second = order_table.take(first, [], "n", LEASE, LEASE)
    assert second.generation == 2
    assert conflict(order_table.report, second, 1, "succeeded", "", 11, LEASE) == "order-fenced"


def test_a_later_attempt_waits_for_the_end_of_the_one_before() -> None:
    first = order_table.take(order(), [], "n", 0, LEASE)
    stopped, second = order_table.put([first], order(attempt=2, body="b"), 1)
    assert stopped.cancelling == "attempt 2 took over" and stopped.state == "taken"
    assert conflict(order_table.take, second, [stopped], "n", 2, LEASE) == "order-early"
    ended = order_table.report(stopped, 1, "cancelled", "", 3, LEASE)
    assert order_table.take(second, [ended], "n", 4, LEASE).state == "taken"


def test_refused_is_said_before_anything_runs() -> None:
    running = order_table.report(order_table.take(order(), [], "n", 0, LEASE), 1, "running", "", 1, LEASE)
    assert conflict(order_table.report, running, 1, "refused", "", 2, LEASE) == "order-step"


def test_an_end_that_comes_again_is_no_error_and_no_news() -> None:
    done = order_table.report(order_table.take(order(), [], "n", 0, LEASE), 1, "failed", "why", 1, LEASE)
    assert order_table.report(done, 1, "failed", "other", 2, LEASE) is done
    assert conflict(order_table.report, done, 1, "succeeded", "", 2, LEASE) == "order-over"
