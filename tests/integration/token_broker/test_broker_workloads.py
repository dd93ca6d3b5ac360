"""The promises of tests/support/suites/broker_workloads.py, over SQLite."""

from tests.support.suites.broker_workloads import *  # noqa: F403

pytest_plugins = ["tests.support.broker_fixtures"]
