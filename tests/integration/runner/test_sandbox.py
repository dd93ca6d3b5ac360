"""The promises of tests/support/suites/sandbox.py, over bubblewrap."""

from tests.support.suites.sandbox import *  # noqa: F403
