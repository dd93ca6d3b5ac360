"""Moments as people read them."""

from __future__ import annotations

import time


def date(seconds: float) -> str:
    """Seconds since the epoch, as a minute in UTC."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
