"""A server that is told to end while it is used still answers, says that it is not ready, and ends each connection with
an answer.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import httpx
import pytest

pytestmark = pytest.mark.long

SERVER = """
import asyncio, socket, sys, uvicorn
from fastapi import FastAPI
from gdi.kit.graceful_shutdown import GracefulShutdown, GracefulServer, LastAnswers

app, drain = FastAPI(), GracefulShutdown(float(sys.argv[1]))
app.add_middleware(LastAnswers, drain=drain)

@app.get("/")
async def hello() -> dict[str, bool]:
    return {"draining": drain.draining}

@app.post("/over")
async def over() -> None:
    drain._until = 0.0

listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
server = GracefulServer(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=5), drain)
asyncio.run(server.serve(sockets=[listener]))
"""


def test_a_draining_server_answers_and_closes_then_ends() -> None:
    with subprocess.Popen([sys.executable, "-c", SERVER, "600"], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = f"http://127.0.0.1:{int(server.stdout.readline())}/"
            with httpx.Client(trust_env=False) as client:
                until = time.monotonic() + 120
                while True:
                    try:
                        before = client.get(url)
                        break
                    except httpx.TransportError:
                        assert time.monotonic() < until
                assert before.json() == {"draining": False} and "connection" not in before.headers
                server.send_signal(signal.SIGTERM)
                answers = 0
                while True:
                    try:
                        answer = client.get(url)
                    except httpx.TransportError:  # before its time to drain is over, a lost request
                        break
                    if answer.json()["draining"]:
                        answers += 1
                        assert answer.headers["connection"] == "close"
                    if answers == 10:
                        client.post(url + "over")  # what the kernel accepts from now on may be reset, never answered
            assert answers >= 10
            assert server.wait(60) in (0, -signal.SIGTERM)
        finally:
            server.kill()


@pytest.mark.parametrize("seconds", ["0", "600"])
def test_without_time_to_drain_or_asked_twice_it_ends_at_once(seconds: str) -> None:
    with subprocess.Popen([sys.executable, "-c", SERVER, seconds], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = f"http://127.0.0.1:{int(server.stdout.readline())}/"
            until = time.monotonic() + 120
            while True:
                try:
                    httpx.get(url, trust_env=False)
                    break
                except httpx.TransportError:
                    assert time.monotonic() < until
            server.send_signal(signal.SIGTERM)
            if seconds != "0":
                while not httpx.get(url, trust_env=False).json()["draining"]:
                    assert time.monotonic() < until
                server.send_signal(signal.SIGTERM)
            server.wait(60)
        finally:
            server.kill()
