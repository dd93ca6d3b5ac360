"""What every test process shares: a home of its own for Airflow, which writes into it as soon as it is imported."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile

import httpx._transports.default
import pytest

from gdi.kit.tls import authorities

pytest.register_assert_rewrite("tests.support")  # its asserts say what was seen, as those of tests do

from tests.support import ci_hour  # noqa: E402  # after that
from tests.support.wire import bound_fakes as bound_fakes  # noqa: E402

# Here, not in a fixture: test files import Airflow while they are collected. Each xdist worker runs this file too, so
# each has its own home.
HOME = tempfile.mkdtemp(prefix="gdi-airflow-home-")
for _name in [name for name in os.environ if name.startswith("AIRFLOW_")]:
    del os.environ[_name]  # a developer's own Airflow, or the home of the process that started this worker
os.environ["AIRFLOW_HOME"] = HOME


# What a shell starts in the background ignores SIGINT, and so does all that it starts; tests send it to what they
# start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A test makes hundreds of short clients; each would read the certificate authorities anew, 30 ms of CPU. None of them
# speaks TLS with these.
_make = httpx._transports.default.create_ssl_context
httpx._transports.default.create_ssl_context = lambda *, verify=True, **more: (
    authorities() if verify is True else _make(verify=verify, **more)
)  # type: ignore[assignment]


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(ci_hour)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    shutil.rmtree(HOME, ignore_errors=True)
