"""CI has its hour (packaging/ci.py): after the moment BEGIN_BY no test begins, and at END_BY the one that runs is ended
and torn down as any other. Both are Unix times in the environment. Such tests are skipped, with a reason by which CI
tells them from others.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Generator
from pathlib import Path

import pytest

BEGIN_BY, END_BY = "GDI_CI_BEGIN_BY", "GDI_CI_END_BY"
COLLECTED = "GDI_CI_COLLECTED"  # a file for the ids of the tests that there are
LATE = "no time was left for it"
OVER = signal.SIGRTMIN  # nothing else uses it; the alarm is pytest-timeout's


class OverError(BaseException):
    """The hour is over: raised in the middle of a test. No test catches it by accident."""


class Hour:
    """`running`: a test may be ended now. Its teardown may not: what it started must go."""

    def __init__(self) -> None:
        self.running, self.over = False, False

    def watch(self, moment: float) -> None:
        """From now on, in the main thread: at that moment the test that runs is ended."""
        signal.signal(OVER, self._end)
        main = threading.main_thread().ident
        assert main is not None
        alarm = threading.Timer(moment - time.time(), lambda: signal.pthread_kill(main, OVER))
        alarm.daemon = True
        alarm.start()

    def _end(self, *_: object) -> None:
        self.over = True
        if self.running:
            self.running = False  # once: what the test does to clean up is left in peace
            raise OverError

    def step(self) -> Generator[None, object, object]:
        """A test's setup, or the test. What goes wrong once the hour is over is the hour's fault."""
        if self.over:
            pytest.skip(LATE)
        self.running = True
        try:
            return (yield)
        except BaseException:
            if self.over:
                pytest.skip(LATE)
            raise
        finally:
            self.running = False


_hour = Hour()


def pytest_configure() -> None:
    if END_BY in os.environ:
        _hour.watch(float(os.environ[END_BY]))


def pytest_collection_finish(session: pytest.Session) -> None:
    if COLLECTED in os.environ and session.items:
        with Path(os.environ[COLLECTED]).open("a") as file:  # two parts may run at once
            file.write("".join(f"{item.nodeid}\n" for item in session.items))


@pytest.hookimpl(wrapper=True, trylast=True)  # innermost: what other plugins do around a setup, they have done
def pytest_runtest_setup() -> Generator[None, object, object]:
    if time.time() > float(os.environ.get(BEGIN_BY, "inf")):
        pytest.skip(LATE)
    return (yield from _hour.step())


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    return (yield from _hour.step())


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown() -> Generator[None, object, object]:
    try:
        return (yield)
    except Exception as error:
        if not _hour.over:
            raise
        print(f"In the teardown of a test that was ended: {type(error).__name__}: {error}")
        return None
