"""The promises of tests/support/suites/broker_jobs.py, over SQLite."""

from tests.support.suites.broker_jobs import *  # noqa: F403

pytest_plugins = ["tests.support.broker_fixtures"]
