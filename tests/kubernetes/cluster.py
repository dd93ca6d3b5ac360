"""A real Kubernetes on this machine, in namespaces of its own: `with Cluster() as cluster: cluster.kubectl("get",
"nodes")`.

etcd, apiserver, controller-manager, scheduler, kube-proxy, a kubelet and a containerd for each node, CoreDNS as a pod.
It has no way to any network but its own, and it ends with the process that started it, by whatever cause. `python -m
tests.kubernetes.cluster` starts one and says how to talk to it.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeVar

from tests.kubernetes import programs
from tests.kubernetes.archive import pack
from tests.kubernetes.cgroups import Cgroups
from tests.kubernetes.parts import API, API_URL, COREDNS_IMAGE, DOMAIN, PAUSE_IMAGE, Node, apiserver, coredns, proxy
from tests.kubernetes.pki import Authority

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PACKAGES = {
    "containerd": "/usr/bin/containerd",
    "runc": "/usr/sbin/runc",
    "containernetworking-plugins": "/usr/lib/cni/ptp",
    "etcd-server": "/usr/bin/etcd",
    "nftables": "/usr/sbin/nft",
    "iproute2": "/usr/sbin/ip",
    "mount": "/usr/bin/mount",
}  # Debian package -> a program of it
PARENT = Path("/tmp")  # not under /var, which is an overlay inside
PREFIX = "gdi-k8s-"
START_TIMEOUT = 120  # seconds, for each step
PR_SET_PDEATHSIG = 1
CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class ClusterError(Exception):
    """A step of the cluster did not come about: which, and the end of the log that says why."""


T = TypeVar("T")


def until(
    what: str, check: Callable[[], T], seconds: float = 120, *, every: float = 0.1, why: Callable[[], str] = lambda: ""
) -> T:
    """The first truthy value of `check`; ClusterError naming `what` and adding `why()` after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        if value := check():
            return value
        if time.monotonic() > deadline:
            raise ClusterError(f"{what}: not within {seconds:.0f} s. {why()}")
        time.sleep(every)


class Cluster:
    """One cluster. `nodes`: how many; they share the machine, and one network namespace."""

    def __init__(self, nodes: int = 1) -> None:
        sweep()
        self.bin = programs.build()
        self.state = Path(tempfile.mkdtemp(prefix=PREFIX, dir=PARENT))
        self._lock = (self.state / "lock").open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.name = self.state.name
        self.nodes = [Node(number, self.state) for number in range(1, nodes + 1)]
        self.cgroups = Cgroups(self.name)
        self._init: subprocess.Popen[str] | None = None
        self._started: dict[str, tuple[list[str], dict[str, str]]] = {}
        self.pid = 0  # of process 1 inside, as the host sees it

    def __enter__(self) -> Cluster:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # Its life

    def start(self) -> None:
        pki = self._write_files()
        self._unshare()
        self.cgroups.make([node.name for node in self.nodes])
        self.process("etcd", ["etcd", "--data-dir=/run/etcd", "--listen-peer-urls=http://127.0.0.1:2380"])
        for node in self.nodes:
            self.process(f"containerd-{node.number}", ["containerd", "--config", str(node.folder / "containerd.toml")])
        self.process("kube-apiserver", [str(self.bin / "kube-apiserver"), *apiserver(pki)])
        basics = [
            pack(PAUSE_IMAGE, self.bin / "pause", self.state / "pause.tar"),
            pack(COREDNS_IMAGE, self.bin / "coredns", self.state / "coredns.tar"),
        ]
        with ThreadPoolExecutor(1) as pool:
            loading = pool.submit(self.load, *basics)
            until("the apiserver is ready", self.ready, START_TIMEOUT, why=lambda: self.log("kube-apiserver"))
            for name in ("kube-controller-manager", "kube-scheduler"):
                arguments = [f"--kubeconfig={pki}/{name}.conf", "--bind-address=127.0.0.1", "--leader-elect=false"]
                if name == "kube-controller-manager":
                    arguments += [
                        f"--service-account-private-key-file={pki}/sa.key",
                        f"--root-ca-file={pki}/ca.crt",
                        "--use-service-account-credentials",
                    ]
                self.process(name, [str(self.bin / name), *arguments])
            self.process("kube-proxy", [str(self.bin / "kube-proxy"), f"--config={self.nodes[0].folder}/proxy.json"])
            self.process(
                "policies",
                [sys.executable, "-m", "tests.kubernetes.policies", str(self.state)],
                {"PYTHONPATH": str(ROOT)},
            )
            loading.result()
        for node in self.nodes:
            arguments = [
                f"--config={node.folder}/kubelet.json",
                f"--kubeconfig={pki}/kubelet-{node.number}.conf",
                f"--hostname-override={node.name}",
            ]
            arguments += [f"--node-ip={node.address}", f"--root-dir={node.folder}/kubelet"]
            self.process(f"kubelet-{node.number}", [str(self.bin / "kubelet"), *arguments])
        self.apply(coredns())
        for node in self.nodes:
            until(
                f"{node.name} is ready",
                partial(self._node_ready, node),
                START_TIMEOUT,
                why=partial(self.log, f"kubelet-{node.number}"),
            )
        self.rollout("deployment/coredns", "kube-system", START_TIMEOUT)

    def stop(self) -> None:
        """Ends every process and leaves nothing: the namespaces take mounts, pods and network with them."""
        if self._init is not None:
            if self.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, signal.SIGKILL)
            else:  # it never came so far; 0 would mean our own process group
                self._init.kill()
            self._init.wait(120)
            self._init, self.pid = None, 0
        self.cgroups.remove()
        shutil.rmtree(self.state, ignore_errors=True)
        self._lock.close()

    def _write_files(self) -> Path:
        pki = self.state / "pki"
        authority = Authority(pki)
        names = (
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            f"kubernetes.default.svc.{DOMAIN}",
        )
        authority.issue("apiserver", "kube-apiserver", addresses=("127.0.0.1", API, "10.96.0.1"), names=names)
        authority.issue("admin", "admin", groups=("system:masters",))
        for name in ("kube-controller-manager", "kube-scheduler", "kube-proxy"):
            authority.issue(name, f"system:{name}")
        for node in self.nodes:
            authority.issue(
                f"kubelet-{node.number}",
                f"system:node:{node.name}",
                groups=("system:nodes",),
                addresses=(node.address,),
            )
        authority.service_account_keys()
        kubeconfigs = [
            "admin",
            "kube-controller-manager",
            "kube-scheduler",
            "kube-proxy",
            *(f"kubelet-{n.number}" for n in self.nodes),
        ]
        written = {name: authority.kubeconfig(name, API_URL) for name in kubeconfigs}
        plugins = self.state / "cni-programs"
        plugins.mkdir()
        for name in ("ptp", "host-local", "loopback"):
            (plugins / name).symlink_to(f"/usr/lib/cni/{name}")
        (plugins / "gate").write_text(f"#!{sys.executable} -IS\n{(HERE / 'gate.py').read_text()}")
        (plugins / "gate").chmod(0o755)
        for node in self.nodes:
            (node.folder / "cni").mkdir(parents=True)
            (node.folder / "containerd.toml").write_text(node.containerd())
            (node.folder / "cni" / "10-pods.conflist").write_text(node.cni())
            (node.folder / "kubelet.json").write_text(json.dumps(node.kubelet(self.name, pki)))
            (node.folder / "proxy.json").write_text(json.dumps(proxy(node, written["kube-proxy"])))
        return pki

    def _unshare(self) -> None:
        (self.state / "plan.json").write_text(json.dumps({"addresses": [f"{node.address}/24" for node in self.nodes]}))
        command = [
            "unshare",
            "--mount",
            "--net",
            "--pid",
            "--fork",
            "--kill-child=SIGKILL",
            "--mount-proc",
            sys.executable,
            "-IS",
            str(HERE / "inside.py"),
        ]
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        self._init = subprocess.Popen(
            [*command, str(self.state)],
            env={"PATH": path, "HOME": "/root"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            stderr=(self.state / "unshare.log").open("w"),
            preexec_fn=lambda: _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0),
        )
        assert self._init.stdout is not None
        if self._init.stdout.readline() != "ready\n":
            said = (self.state / "unshare.log").read_text()[-1500:]
            raise ClusterError(
                f"the namespaces could not be made (exit code {self._init.wait(10)}): root with every capability is"
                f" needed. {said}"
            )
        children = Path(f"/proc/{self._init.pid}/task/{self._init.pid}/children").read_text().split()
        self.pid = int(children[0])

    def ready(self) -> bool:
        return "ok" in self.kubectl("get", "--raw", "/readyz", "--request-timeout=3s", check=False, timeout=10)

    def _node_ready(self, node: Node) -> bool:
        found = self.kubectl(
            "get",
            "node",
            node.name,
            "-o",
            "jsonpath={.status.conditions[?(@.type=='Ready')].status}",
            check=False,
            timeout=10,
        )
        return found == "True"

    # Its own processes

    def process(self, name: str, argv: list[str], environment: dict[str, str] | None = None) -> None:
        """Starts a process inside, its output in logs/NAME. It dies with the cluster."""
        program = shutil.which(argv[0], path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        if program is None:
            raise ClusterError(f"{name}: {argv[0]} is not there")
        answer = self._ask(
            {"do": "start", "name": name, "argv": [program, *argv[1:]], "environment": environment or {}}
        )
        if "pid" not in answer:
            raise ClusterError(f"{name} did not start: {answer.get('error')}")
        self._started[name] = (argv, environment or {})

    def signal(self, name: str, number: int) -> None:
        if not self._ask({"do": "signal", "name": name, "signal": number}).get("signalled"):
            raise ClusterError(f"{name} does not run")

    def running(self) -> list[str]:
        return list(self._ask({"do": "list"})["running"])

    @contextlib.contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """The process stands still meanwhile: connections to it hang. Afterwards it carries on."""
        self.signal(name, signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(name, signal.SIGCONT)

    @contextlib.contextmanager
    def without(self, name: str) -> Iterator[None]:
        """The process is killed: connections to it are refused. Afterwards it is started again as it was; for the
        apiserver, until it is ready.
        """
        self.signal(name, signal.SIGKILL)
        until(f"{name} is gone", lambda: name not in self.running(), 10)
        try:
            yield
        finally:
            self.process(name, *self._started[name])
            if name == "kube-apiserver":
                until("the apiserver is ready again", self.ready, START_TIMEOUT, why=lambda: self.log(name))

    def log(self, name: str, size: int = 2000) -> str:
        try:
            return f"The end of {name}'s log:\n{(self.state / 'logs' / name).read_text(errors='replace')[-size:]}"
        except OSError:
            return f"{name} has no log"

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(str(self.state / "control"))
            client.sendall(json.dumps(request).encode() + b"\n")
            answer: dict[str, Any] = json.loads(client.makefile("rb").readline())
            return answer

    # Talking to it

    def enter(self, *namespaces: str) -> list[str]:
        """The words before a command that runs inside: `net` alone, or `mount` and `pid` too."""
        return ["nsenter", f"--target={self.pid}", *(f"--{name}" for name in namespaces)]

    def run(
        self,
        argv: list[str],
        *,
        stdin: str | None = None,
        check: bool = True,
        timeout: float = 60,
        namespaces: tuple[str, ...] = ("net",),
    ) -> str:
        """What a command in the cluster's network prints; ClusterError with what it said where it failed and
        `check`.
        """
        environment = {
            **os.environ,
            "KUBECONFIG": str(self.state / "pki" / "admin.conf"),
            "HOME": str(self.state),
            "PATH": f"{self.bin}:{os.environ['PATH']}",
        }
        source: dict[str, Any] = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
        try:
            done = subprocess.run(
                [*self.enter(*namespaces), *argv],
                env=environment,
                capture_output=True,
                text=True,
                timeout=timeout,
                **source,
            )
        except subprocess.TimeoutExpired:
            if check:
                raise ClusterError(f"{' '.join(argv[:6])} did not end within {timeout:.0f} s") from None
            return ""
        if check and done.returncode:
            raise ClusterError(
                f"{' '.join(argv[:6])} failed with exit code {done.returncode}:"
                f" {(done.stderr or done.stdout).strip()[-2000:]}"
            )
        return str(done.stdout)

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True, timeout: float = 60) -> str:
        return self.run([str(self.bin / "kubectl"), *arguments], stdin=stdin, check=check, timeout=timeout)

    def helm(self, *arguments: str, check: bool = True, timeout: float = 120) -> str:
        return self.run([str(self.bin / "helm"), *arguments], check=check, timeout=timeout)

    def apply(self, manifests: list[dict[str, Any]]) -> None:
        """Creates or changes; what the apiserver does not know in a manifest is an error."""
        self.kubectl(
            "apply",
            "--validate=strict",
            "-f",
            "-",
            stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests}),
        )

    def get(self, kind: str, name: str, namespace: str = "default") -> dict[str, Any]:
        """{} where there is none."""
        found = self.kubectl("get", kind, name, "-n", namespace, "--ignore-not-found", "-o", "json")
        return dict(json.loads(found)) if found.strip() else {}

    def rollout(self, workload: str, namespace: str, seconds: float) -> None:
        try:
            self.kubectl(
                "rollout", "status", workload, "-n", namespace, f"--timeout={seconds:.0f}s", timeout=seconds + 20
            )
        except ClusterError as error:
            pods = self.kubectl("describe", "pods", "-n", namespace, check=False)
            raise ClusterError(f"{error}\n{pods[-3000:]}") from None

    @contextlib.contextmanager
    def network(self) -> Iterator[None]:
        """Sockets that this thread makes meanwhile are in the cluster's network, where pods and services have their
        addresses.
        """
        own, theirs = os.open("/proc/thread-self/ns/net", os.O_RDONLY), os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY)
        try:
            _setns(theirs)
            try:
                yield
            finally:
                _setns(own)
        finally:
            os.close(own)
            os.close(theirs)

    def spawn(self, argv: list[str], log: IO[Any], **options: Any) -> subprocess.Popen[Any]:
        """A process of the test's own (a stand-in) in the cluster's network: pods reach it at a node's address."""
        return subprocess.Popen(
            [*self.enter("net"), *argv], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, **options
        )

    def load(self, *archives: Path) -> None:
        """Brings images (docker-archive files) to every node."""
        for node in self.nodes:
            ctr = ["ctr", "--address", str(node.socket), "--namespace", "k8s.io"]

            def answers(ctr: list[str] = ctr) -> bool:
                return bool(self.run([*ctr, "version"], namespaces=("mount",), check=False))

            until("containerd answers", answers, START_TIMEOUT, why=partial(self.log, f"containerd-{node.number}"))
            for archive in archives:
                self.run([*ctr, "images", "import", str(archive)], namespaces=("mount",), timeout=300)


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def sweep() -> None:
    """Removes what clusters left whose process was killed: folders and empty cgroups; their processes and mounts are
    gone already.
    """
    for left in PARENT.glob(f"{PREFIX}*"):
        try:
            with (left / "lock").open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue  # lives, or is just being made
        Cgroups(left.name).remove()
        shutil.rmtree(left, ignore_errors=True)


def main() -> None:
    started = time.monotonic()
    with Cluster() as cluster:
        print(f"up after {time.monotonic() - started:.0f} s; talk to it, as root:")
        print(
            f"  export KUBECONFIG={cluster.state}/pki/admin.conf; {' '.join(cluster.enter('net'))}"
            f" {cluster.bin}/kubectl get pods -A"
        )
        print("Ctrl-C ends it", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    main()
