"""The promises of tests/support/suites/broker_starts.py, over SQLite."""

from tests.support.suites.broker_starts import *  # noqa: F403

pytest_plugins = ["tests.support.broker_fixtures"]
