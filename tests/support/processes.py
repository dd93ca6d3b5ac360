"""Processes and ports that tests use: nothing outlives its tests."""

from __future__ import annotations

import ctypes
import signal
import socket
import subprocess
from typing import Any


def free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in held]
    for s in held:
        s.close()
    return ports


def free_port() -> int:
    return free_ports(1)[0]


def die_with_parent() -> None:
    """prctl(PR_SET_PDEATHSIG): also when the tests are killed, nothing stays."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def stop(process: subprocess.Popen[Any], with_signal: int = signal.SIGTERM) -> None:
    process.send_signal(with_signal)
    try:
        process.wait(120)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(5)
