"""How an order changes: waiting → taken → running → succeeded | failed | refused | cancelled | expired. Pure: no clock,
no database; who keeps orders asks here what becomes of them.

An order belongs to (run, node, kind, attempt). Who takes it gets the next `generation` and a lease; an earlier
generation is not heard any more. What is over stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gdi.contracts.orders import ENDED_ORDER, OrderState

MAX_DEADLINE = 60 * 86400.0  # seconds that an order may last


class OrderConflict(Exception):
    """What was asked does not go with how the order stands. `slug` is the problem's type."""

    def __init__(self, slug: str, detail: str) -> None:
        super().__init__(detail)
        self.slug = slug


@dataclass(frozen=True)
class Order:
    """`body`: SHA-256 of what was asked. `nonce`: what the taker shows. `lease_until`, `deadline`: seconds since the
    epoch. `cancelling`: why its end was asked for, while it goes on.
    """

    attempt: int
    body: str
    nonce: str
    deadline: float
    state: OrderState = "waiting"
    generation: int = 0
    lease_until: float = 0
    cancelling: str = ""
    reason: str = ""

    @property
    def over(self) -> bool:
        return self.state in ENDED_ORDER


def put(known: Sequence[Order], new: Order, now: float) -> list[Order]:
    """The orders of one run, node and kind that change where `new` is asked for: none where it is there already; else
    `new`, and those of earlier attempts, whose end is asked for. OrderConflict: `order-differs`, `attempt-over`,
    `order-late`.
    """
    same = next((order for order in known if order.attempt == new.attempt), None)
    if same is not None:
        if same.body != new.body:
            raise OrderConflict("order-differs", f"Attempt {new.attempt} has an order of another content.")
        return []
    if any(order.attempt > new.attempt for order in known):
        raise OrderConflict("attempt-over", f"A later attempt than {new.attempt} has an order.")
    if not now < new.deadline <= now + MAX_DEADLINE:
        raise OrderConflict("order-late", "The order's deadline is over, or too far away.")
    stopped = [cancel(order, f"attempt {new.attempt} took over") for order in known if not order.over]
    return [*stopped, new]


def take(order: Order, earlier: Sequence[Order], nonce: str, now: float, lease: float) -> Order:
    """The order in the hands of who shows its nonce. `earlier`: those of the attempts before, which must be over, or
    not heard of any more. OrderConflict: `order-over`, `order-nonce`, `order-taken`, `order-early`.
    """
    order = tick(order, now)
    if order.over:
        raise OrderConflict("order-over", f"The order is {order.state}.")
    if nonce != order.nonce:
        raise OrderConflict("order-nonce", "The nonce is not the order's.")
    if order.state != "waiting" and now < order.lease_until:
        raise OrderConflict("order-taken", "The order was taken, and is heard of.")
    if any(not tick(one, now).over and one.state != "waiting" and now < one.lease_until for one in earlier):
        raise OrderConflict("order-early", "An earlier attempt has not ended yet.")
    return replace(order, state="taken", generation=order.generation + 1, lease_until=now + lease)


def report(order: Order, generation: int, state: OrderState, reason: str, now: float, lease: float) -> Order:
    """What the taker says. The same end again changes nothing. OrderConflict: `order-fenced`, `order-over`,
    `order-step`.
    """
    if state in ("waiting", "taken", "expired"):
        raise OrderConflict("order-step", f"A node does not say that an order is {state}.")
    if generation != order.generation or order.state == "waiting":
        raise OrderConflict("order-fenced", f"The order is at generation {order.generation}, not {generation}.")
    if order.state == state and order.over:
        return order
    order = tick(order, now)
    if order.over:
        raise OrderConflict("order-over", f"The order is {order.state}.")
    if state == "refused" and order.state != "taken":
        raise OrderConflict("order-step", f"An order that is {order.state} does not become {state}.")
    return replace(order, state=state, reason=reason, lease_until=now + lease)


def cancel(order: Order, why: str) -> Order:
    """Ends what waits; asks for the end of what goes on. The first reason stays."""
    if order.over or order.cancelling:
        return order
    if order.state == "waiting":
        return replace(order, state="cancelled", cancelling=why, reason=why)
    return replace(order, cancelling=why)


def tick(order: Order, now: float) -> Order:
    """The order at this time: past its deadline it is expired."""
    return replace(order, state="expired") if not order.over and now >= order.deadline else order
