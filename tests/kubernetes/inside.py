"""Process 1 of a test cluster's namespaces: makes its network and mounts, starts what it is told to, reaps. Standard
library only.

Started by `unshare --mount --net --pid --fork --kill-child --mount-proc`: when this process ends, by whatever cause,
the kernel ends every process of the cluster, unmounts what it mounted and drops its network. Nothing of the host's is
changed: /var is an overlay, /run is empty, sysctls that a kubelet insists on are shown to it and not set.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

# Not namespaced: a kubelet sets them for the whole machine unless they already have the value it wants.
TUNABLES = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}


def run(*command: str) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
    if done.returncode:
        sys.exit(f"inside: {' '.join(command)} failed: {done.stderr.strip()}")


def mounts(state: Path) -> None:
    run(
        "mount", "--make-rshared", "/"
    )  # among the cluster's own namespaces: containers' mounts are propagated, the host sees none
    for name in ("upper", "work"):
        (state / "var" / name).mkdir(parents=True)
    run(
        "mount",
        "-t",
        "overlay",
        "overlay",
        "-o",
        f"lowerdir=/var,upperdir={state}/var/upper,workdir={state}/var/work",
        "/var",
    )
    run("mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", "/run")
    (state / "resolv.conf").write_text(
        "nameserver 127.0.0.1\n"
    )  # nobody answers there: a pull of an absent image fails at once
    run("mount", "--bind", str(state / "resolv.conf"), "/etc/resolv.conf")
    for name, value in TUNABLES.items():
        shown = state / "sysctl" / name
        shown.parent.mkdir(parents=True, exist_ok=True)
        shown.write_text(value + "\n")
        if Path("/proc/sys", name).exists():
            run("mount", "--bind", str(shown), f"/proc/sys/{name}")


def network(addresses: list[str]) -> None:
    """A loopback and one bridge that carries the nodes' addresses. No way out: what a pod reaches is in here."""
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "nodes", "type", "bridge")
    for address in addresses:
        run("ip", "address", "add", address, "dev", "nodes")
    run("ip", "link", "set", "nodes", "up")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


class Processes:
    """The cluster's own processes by name; their children may be reparented to us and are reaped like them."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.names: dict[int, str] = {}
        self.ended: dict[str, int] = {}

    def start(self, name: str, argv: list[str], environment: dict[str, str]) -> int:
        if name in self.names.values():
            raise ValueError(f"{name} runs already")
        log = os.open(self.state / "logs" / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        null = os.open("/dev/null", os.O_RDONLY)
        actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)]
        try:
            pid = os.posix_spawn(argv[0], argv, {**os.environ, **environment}, file_actions=actions, setsid=True)
        finally:
            os.close(log)
            os.close(null)
        self.names[pid] = name
        self.ended.pop(name, None)
        return pid

    def signal(self, name: str, number: int) -> bool:
        for pid, known in self.names.items():
            if known == name:
                os.kill(pid, number)
                return True
        return False

    def reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if (name := self.names.pop(pid, None)) is not None:
                self.ended[name] = os.waitstatus_to_exitcode(status)


def answer(processes: Processes, request: dict[str, Any]) -> dict[str, Any]:
    match request:
        case {"do": "start", "name": name, "argv": argv, "environment": environment}:
            return {"pid": processes.start(name, argv, environment)}
        case {"do": "signal", "name": name, "signal": number}:
            return {"signalled": processes.signal(name, number)}
        case {"do": "list"}:
            return {"running": sorted(processes.names.values()), "ended": processes.ended}
    return {"error": "unknown request"}


def main() -> None:
    state = Path(sys.argv[1])
    plan = json.loads((state / "plan.json").read_text())
    (state / "logs").mkdir()
    mounts(state)
    network(plan["addresses"])
    processes = Processes(state)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(state / "control"))
    (state / "control").chmod(0o600)
    server.listen(16)
    server.settimeout(0.1)
    print("ready", flush=True)
    while True:
        processes.reap()
        try:
            client, _ = server.accept()
        except TimeoutError:
            continue
        with client:
            client.settimeout(5)
            try:
                line = client.makefile("rb").readline(1 << 20)
                processes.reap()
                client.sendall(json.dumps(answer(processes, json.loads(line))).encode() + b"\n")
            except (OSError, ValueError) as error:
                with contextlib.suppress(OSError):
                    client.sendall(json.dumps({"error": str(error)}).encode() + b"\n")


main()
