"""The process host with real sandboxes: what a pod may see, how it ends, what survives the host. The pod's program is a
small probe, not Snakemake.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import psutil
import pytest

from gdi.contracts.workflow_files import digest_of
from gdi.kit.jose import verify
from gdi.runner.sandbox import why_not
from tests.support.process_host import host_config

pytestmark = pytest.mark.skipif(why_not() is not None, reason=f"no sandboxes here: {why_not()}")

PROBE = """
import json, os, signal, socket, sys, time, urllib.request
run = json.load(open("/gdi/run.json"))
mode = run["parameters"]["mode"]
def tell(**what): open("/gdi/work/answer.json", "w").write(json.dumps(what))
def over(path):
    s = socket.socket(socket.AF_UNIX); s.settimeout(60); s.connect(path)
    s.sendall(b"hello\\n"); s.shutdown(socket.SHUT_WR)
    return s.makefile().read()
if mode == "look":
    seen = []
    for root, dirs, files in os.walk("/"):
        if root in ("/proc", "/sys", "/usr") or root in run["parameters"]["skip"]: dirs.clear(); continue
        seen += [os.path.join(root, f) for f in files]
    procs = {p: open(f"/proc/{p}/cmdline").read().replace("\\0", " ") for p in os.listdir("/proc") if p.isdigit()}
    environs = {p: open(f"/proc/{p}/environ").read() for p in procs}
    def connect(host, port):
        try: socket.create_connection((host, port), 2); return "connected"
        except OSError as e: return type(e).__name__
    def write(path):
        try: open(path, "w"); return "written"
        except OSError as e: return type(e).__name__
    tell(files=seen, processes=procs, environs=environs, env=dict(os.environ), uid=os.getuid(),
         interfaces=[l.split(":")[0].strip() for l in open("/proc/net/dev").readlines()[2:]],
         tcp={str(p): connect("127.0.0.1", p) for p in run["parameters"]["ports"]},
         metadata=connect("169.254.169.254", 80),
         writes={p: write(p) for p in ("/x", "/usr/x", "/gdi/workflow/probe.py", "/gdi/run.json", "/gdi/identity/token",
                                       "/gdi/sockets/x", sys.prefix + "/x")},
         broker=over("/gdi/sockets/broker.sock"), gateway=over("/gdi/sockets/gateway.sock"),
         sockets=sorted(os.listdir("/gdi/sockets")), token=open("/gdi/identity/token").read(),
         imports=__import__("importlib").import_module("gdi.broker_client").__name__,
         caps=[l for l in open("/proc/self/status") if l.startswith("CapEff")][0].split()[1])
elif mode == "wait":
    def stop(n, f): tell(signal=n); os._exit(1 if n == signal.SIGTERM else 0)
    signal.signal(signal.SIGTERM, stop); signal.signal(signal.SIGUSR1, stop)
    open("/gdi/work/ready", "w").close()
    time.sleep(600)
elif mode == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0: os.setsid()
    open("/gdi/work/ready", "w").close()
    time.sleep(600)
elif mode == "die": os.kill(os.getpid(), signal.SIGKILL)
elif mode == "flood":
    for i in range(40000): print("x" * 99)
elif mode == "token":
    first = open("/gdi/identity/token").read(); end = time.time() + 120
    while open("/gdi/identity/token").read() == first and time.time() < end: time.sleep(0.1)
    tell(changed=open("/gdi/identity/token").read() != first)
sys.exit(run["parameters"].get("exit", 0))
"""


class Tcp(threading.Thread):
    """Answers each connection with its name."""

    def __init__(self, name: str) -> None:
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.name = name
        self.start()

    def run(self) -> None:
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            with near:
                near.recv(100)
                near.sendall(self.name.encode())


class HostProcess:
    """The real daemon, by its command line."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.broker, self.gateway, self.other = Tcp("broker"), Tcp("gateway"), Tcp("other")
        workflow = folder / "workflows" / "probe"
        workflow.mkdir(parents=True)
        (workflow / "probe.py").write_text(PROBE)
        self.digest = digest_of(workflow)
        entry = [sys.executable, "/gdi/workflow/probe.py"]
        own = {"entry": entry, "packages": ["gdi.kit", "gdi.broker_client"], **settings}
        self.config = host_config(folder, self.broker.port, {"http://gateway.test": self.gateway.port}, **own)
        self.start()

    def start(self) -> None:
        log = (self.folder / "host.log").open("ab")
        secret = {"PLANTED": "planted-secret", "PATH": os.environ["PATH"]}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gdi.runner.host", "--config", str(self.config)], stdout=log, stderr=log, env=secret
        )
        self.http = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(self.folder / "host.sock")), base_url="http://host", timeout=120
        )
        until(lambda: self.answers(), 120)

    def answers(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError((self.folder / "host.log").read_text())
        try:
            return self.http.get("/livez").is_success
        except httpx.HTTPError:
            return False

    def put(self, name: str, mode: str, node: str = "node-a", **parameters: Any) -> httpx.Response:
        body = {
            "run": "r-" + "0" * 20,
            "attempt": 1,
            "node": node,
            "workflow": "probe",
            "digest": self.digest,
            "parameters": {"mode": mode, **parameters},
            "datasets": ["DS-A"],
            "gateway_url": "http://gateway.test",
            "audience": "http://gateway.test",
        }
        return self.http.put(f"/pods/{name}", json=body)

    def run(self, name: str, mode: str, node: str = "node-a", **parameters: Any) -> None:
        for answer in (self.put(name, mode, node, **parameters), self.http.post(f"/pods/{name}/start")):
            assert answer.is_success, answer.text

    def status(self, name: str) -> dict[str, Any]:
        return dict(self.http.get(f"/pods/{name}").json())

    def ended(self, name: str, seconds: float = 120) -> dict[str, Any]:
        until(lambda: self.status(name)["state"] in ("exited", "lost"), seconds)
        return self.status(name)

    def work(self, node: str = "node-a") -> Path:
        return self.folder / "state" / "work" / ("r-" + "0" * 20) / node

    def answer(self, node: str = "node-a") -> dict[str, Any]:
        return dict(json.loads((self.work(node) / "answer.json").read_text()))

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(120)
        for tcp in (self.broker, self.gateway, self.other):
            tcp.listener.close()


def until(condition: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the awaited condition did not come true"
        time.sleep(0.02)


def alive(text: str) -> list[int]:
    """Processes with `text` in their arguments or working folder."""
    found = []
    for pid in Path("/proc").glob("[0-9]*"):
        try:
            if text in (pid / "cmdline").read_text() or text in os.readlink(pid / "cwd"):
                found.append(int(pid.name))
        except OSError:
            continue
    return found


@pytest.fixture
def host(tmp_path: Path) -> Iterator[HostProcess]:
    made = HostProcess(tmp_path)
    yield made
    made.close()


def test_a_pod_sees_no_other_process_folder_environment_or_network(host: HostProcess) -> None:
    (host.folder / "state" / "work" / "r-other").mkdir(parents=True)
    (host.folder / "state" / "work" / "r-other" / "genotypes").write_text("planted-secret")
    host.run("other", "wait", node="node-b")
    until(lambda: (host.work("node-b") / "ready").exists(), 120)
    skip = [sys.prefix, sys.base_prefix, "/lib", "/lib64", "/bin", "/sbin", "/dev"]
    host.run("pod", "look", skip=skip, ports=[host.broker.port, host.gateway.port, host.other.port])
    assert host.ended("pod")["exit_code"] == 0, (host.folder / "state/pods/pod/log").read_text()
    seen = host.answer()
    packages = [str(Path(importlib.import_module(p).__file__ or "").parent) for p in ("gdi.kit", "gdi.broker_client")]
    strange = [f for f in seen["files"] if not f.startswith(("/gdi/", "/etc/", *packages))]
    assert strange == []
    assert [f for f in seen["files"] if f.startswith("/gdi/work/") and "answer" not in f] == []
    assert sorted(seen["processes"]) == ["1", "2"]
    assert str(host.folder) not in json.dumps(seen["processes"]) + json.dumps(seen["environs"])
    assert "planted-secret" not in json.dumps(seen)
    assert set(seen["env"]) <= {"PATH", "HOME", "XDG_CACHE_HOME", "LANG", "PWD", "LC_CTYPE", "OLDPWD", "SHLVL", "_"}
    assert seen["env"]["HOME"] == "/gdi/work"
    assert seen["uid"] == 1000 and int(seen["caps"], 16) == 0
    assert seen["interfaces"] == ["lo"]
    assert set(seen["tcp"].values()) == {"ConnectionRefusedError"} and seen["metadata"] == "OSError"
    assert set(seen["writes"].values()) <= {"OSError", "PermissionError"}
    assert (seen["broker"], seen["gateway"]) == ("broker", "gateway") and seen["sockets"] == [
        "broker.sock",
        "gateway.sock",
    ]


def test_identity_tokens_name_pod_and_uid_and_exist_only_while_it_runs(host: HostProcess) -> None:
    keys = json.loads((host.folder / "jwks.json").read_text())["keys"]
    assert keys == host.http.get("/jwks").json()["keys"] and "d" not in keys[0]
    uid = host.put("pod", "look", skip=["/"], ports=[]).json()["uid"]
    assert not (host.folder / "state/pods/pod/identity/token").exists()
    host.http.post("/pods/pod/start")
    host.ended("pod")
    token = host.answer()["token"]
    claims = verify(token, keys, issuer="https://cluster.test", audience="token-broker")
    assert claims["sub"] == "system:serviceaccount:gdi:snakemake"
    assert claims["kubernetes.io"] == {
        "namespace": "gdi",
        "serviceaccount": {"name": "snakemake"},
        "pod": {"name": "pod", "uid": uid},
    }
    assert claims["exp"] - claims["iat"] == 600
    assert not (host.folder / "state/pods/pod/identity/token").exists()
    airflow = host.folder / "identity" / "airflow-token"
    assert (
        jwt.decode(airflow.read_text(), options={"verify_signature": False})["sub"]
        == "system:serviceaccount:gdi:airflow"
    )
    for secret in (airflow, host.folder / "key.pem", host.folder / "host.sock"):
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert token not in (host.folder / "host.log").read_text()


def test_token_files_are_renewed_before_they_expire(tmp_path: Path) -> None:
    host = HostProcess(tmp_path, token_lifetime=10)
    try:
        host.run("pod", "token")
        host.ended("pod")
        assert host.answer() == {"changed": True}
    finally:
        host.close()


def test_stopping_asks_the_program_inside_then_kills(host: HostProcess) -> None:
    for name, mode, number in (("one", "cancel", signal.SIGTERM), ("two", "hand-over", signal.SIGUSR1)):
        host.run(name, "wait", node=f"node-{name}")
        until(lambda node=f"node-{name}": (host.work(node) / "ready").exists(), 120)  # type: ignore[misc]
        assert host.http.post(f"/pods/{name}/stop", json={"mode": mode}).json()["stopping"] is True
        end = host.ended(name)
        assert (end["exit_code"], end["signal"], end["stopping"]) == (1 if number == signal.SIGTERM else 0, None, True)
        assert host.answer(f"node-{name}") == {"signal": number}
    host.run("deaf", "deaf", node="node-deaf")
    until(lambda: (host.work("node-deaf") / "ready").exists(), 120)
    host.http.post("/pods/deaf/stop", json={"grace": 0.3})
    assert host.ended("deaf")["signal"] == signal.SIGKILL
    until(lambda: not alive(str(host.work("node-deaf"))), 120)


def test_exit_codes_and_deaths_by_signal_are_told_apart(host: HostProcess) -> None:
    for number, code in enumerate((0, 1, 2, 75)):
        host.run(f"exit-{number}", "exit", exit=code)
        end = host.ended(f"exit-{number}")
        assert (end["state"], end["exit_code"], end["signal"]) == ("exited", code, None)
    host.run("killed", "die")
    end = host.ended("killed")
    assert (end["state"], end["exit_code"], end["signal"]) == ("exited", None, signal.SIGKILL)


def test_creating_and_starting_twice_makes_one_pod(host: HostProcess) -> None:
    first, second = host.put("pod", "wait").json(), host.put("pod", "wait").json()
    assert first == second and first["state"] == "created"
    host.http.post("/pods/pod/start")
    host.http.post("/pods/pod/start")
    until(lambda: (host.work() / "ready").exists(), 120)
    inside = psutil.Process(host.process.pid).children(recursive=True)
    assert len([p for p in inside if p.cmdline()[-1:] == ["/gdi/workflow/probe.py"] and "bwrap" not in p.name()]) == 1
    assert host.put("pod", "look").json()["type"].endswith("pod-exists")
    host.http.delete("/pods/pod")
    assert host.http.get("/pods/pod").status_code == 404
    assert (host.work() / "ready").exists()  # the run's work stays for its next pod


def test_pods_die_with_a_killed_host_and_are_lost_after_its_restart(host: HostProcess) -> None:
    host.run("pod", "wait")
    until(lambda: (host.work() / "ready").exists(), 120)
    host.put("waiting", "wait")
    inside = psutil.Process(host.process.pid).children(
        recursive=True
    )  # by process: other tests' pods have the same folders inside
    assert inside
    host.process.send_signal(signal.SIGKILL)
    host.process.wait()
    assert not psutil.wait_procs(inside, timeout=120)[1]
    host.start()
    assert host.status("pod")["state"] == "lost"
    assert host.status("waiting")["state"] == "created"
    assert host.http.post("/pods/pod/start").json()["type"].endswith("pod-ended")
    host.run("next", "exit")
    assert host.ended("next")["exit_code"] == 0


def test_a_second_host_on_the_same_folder_is_refused(host: HostProcess) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gdi.runner.host", "--config", str(host.config)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2 and "used by another process host" in done.stderr


def test_bad_requests_are_refused_by_name_and_start_nothing(host: HostProcess) -> None:
    body = {
        "run": "r-" + "0" * 20,
        "attempt": 1,
        "node": "node-a",
        "workflow": "probe",
        "digest": host.digest,
        "datasets": [],
        "audience": "x",
    }
    cases = {
        "destination-not-allowed": {**body, "gateway_url": "http://169.254.169.254"},
        "workflow-changed": {**body, "gateway_url": "http://gateway.test", "digest": "sha256:" + "0" * 64},
        "unknown-workflow": {**body, "gateway_url": "http://gateway.test", "workflow": "absent"},
        "invalid-request": {**body, "gateway_url": "http://gateway.test", "workflow": "../probe"},
    }
    for slug, request in cases.items():
        answer = host.http.put("/pods/bad", json=request)
        assert answer.json()["type"] == f"urn:gdi:problem:{slug}", answer.text
    assert host.http.put("/pods/..%2Fx", json=body).status_code in (404, 405, 422)
    assert host.http.get("/pods").json() == []


def test_a_flood_of_output_is_bounded_and_does_not_hold_the_pod(tmp_path: Path) -> None:
    host = HostProcess(tmp_path, max_log_bytes=65536)
    try:
        host.run("pod", "flood")
        assert host.ended("pod")["exit_code"] == 0
        total = sum(f.stat().st_size for f in (tmp_path / "state/pods/pod").glob("log*"))
        assert 0 < total <= 3 * 65536
    finally:
        host.close()


def test_a_mistake_in_the_configuration_is_named(tmp_path: Path) -> None:
    config = tmp_path / "host.yaml"
    config.write_text("socket: s\nbroker: {host: x, port: 99999}\n")
    done = subprocess.run(
        [sys.executable, "-m", "gdi.runner.host", "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2 and "broker.port" in done.stderr and "state_dir" in done.stderr
