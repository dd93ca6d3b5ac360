"""The test cluster's own programs, built from their Go modules into a cache folder: `python -m
tests.kubernetes.programs`. About 7 minutes once, then at once.

None of them is in Debian in a version that is still supported, and no prebuilt binary is fetched: the Go checksum
database vouches for every source.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from tests.support.debian import CACHE

KUBERNETES = "1.34.2"
COREDNS = "1.12.4"
HELM = "3.22.0"
FOLDER = CACHE / f"kubernetes-{KUBERNETES}-coredns-{COREDNS}-helm-{HELM}"
OF_KUBERNETES = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubectl")
NAMES = (*OF_KUBERNETES, "coredns", "helm", "pause")
BUILD_TIMEOUT = 3600  # seconds, for one module; it may have to do with what CPU time others leave
# What a pod's first container is made of: it holds the pod's namespaces and does nothing.
PAUSE = """package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGINT, syscall.SIGTERM)
	<-end
}
"""
# CoreDNS with the plugins that its configuration here names: the others bring every cloud's client library, and half of
# the build's time.
COREDNS_MAIN = """package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/ready"
)

func init() { dnsserver.Directives = []string{"errors", "ready", "kubernetes"} }

func main() { coremain.Run() }
"""


class BuildError(Exception):
    """A program could not be built; the message carries the end of what Go said."""


def missing() -> str | None:
    """Why nothing can be built here, or None. Programs that are in the cache need no Go."""
    if all((FOLDER / name).exists() for name in NAMES) or shutil.which("go"):
        return None
    return "Go (1.24 or newer) is missing: it builds Kubernetes, CoreDNS and Helm from their modules"


def build() -> Path:
    """The folder that holds every program of NAMES. Two builds at once are safe: the second waits. BuildError."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if any(not (FOLDER / name).exists() for name in OF_KUBERNETES):
            _kubernetes()
        if not (FOLDER / "helm").exists():
            with tempfile.TemporaryDirectory() as made:
                _go(
                    ["install", "-trimpath", "-ldflags=-s -w", f"helm.sh/helm/v3/cmd/helm@v{HELM}"],
                    Path(made),
                    CGO_ENABLED="0",
                    GOBIN=made,
                )
                _keep(Path(made) / "helm")
        if not (FOLDER / "coredns").exists():
            with tempfile.TemporaryDirectory() as made:
                (Path(made) / "go.mod").write_text(
                    f"module dns\ngo 1.24\nrequire github.com/coredns/coredns v{COREDNS}\n"
                )
                (Path(made) / "main.go").write_text(COREDNS_MAIN)
                _go(
                    ["build", "-mod=mod", "-trimpath", "-ldflags=-s -w", "-o", "coredns", "."],
                    Path(made),
                    CGO_ENABLED="0",
                )
                _keep(Path(made) / "coredns")
        if not (FOLDER / "pause").exists():
            with tempfile.TemporaryDirectory() as made:
                (Path(made) / "pause.go").write_text(PAUSE)
                _go(
                    ["build", "-trimpath", "-ldflags=-s -w", "-o", "pause", "pause.go"],
                    Path(made),
                    CGO_ENABLED="0",
                    GO111MODULE="off",
                )
                _keep(Path(made) / "pause")
    return FOLDER


def _kubernetes() -> None:
    """One module that requires Kubernetes' own; its staging modules, required there at v0.0.0, are published as
    v0.<minor>.<patch>.
    """
    with tempfile.TemporaryDirectory() as made:
        work = Path(made)
        manifest = Path(
            json.loads(_go(["mod", "download", "-json", f"k8s.io/kubernetes@v{KUBERNETES}"], work))["GoMod"]
        )
        staged = sorted(set(re.findall(r"^\s*(k8s\.io/[a-z-]+) v0\.0\.0$", manifest.read_text(), re.MULTILINE)))
        version = "v0." + KUBERNETES.removeprefix("1.")
        replaced = "\n".join(f"replace {name} => {name} {version}" for name in staged)
        (work / "go.mod").write_text(
            f"module kubernetes\ngo 1.24\nrequire k8s.io/kubernetes v{KUBERNETES}\n{replaced}\n"
        )
        imports = "\n".join(f'import _ "k8s.io/kubernetes/cmd/{name}"' for name in OF_KUBERNETES)
        (work / "tools.go").write_text(f"//go:build tools\npackage tools\n{imports}\n")
        _go(["mod", "tidy", "-e"], work)
        stamp = (
            f"-s -w -X k8s.io/component-base/version.gitVersion=v{KUBERNETES} -X"
            f" k8s.io/client-go/pkg/version.gitVersion=v{KUBERNETES}"
        )
        (work / "bin").mkdir()
        _go(
            [
                "build",
                "-trimpath",
                f"-ldflags={stamp}",
                "-o",
                "bin/",
                *(f"k8s.io/kubernetes/cmd/{name}" for name in OF_KUBERNETES),
            ],
            work,
        )
        for name in OF_KUBERNETES:
            _keep(work / "bin" / name)


def _keep(program: Path) -> None:
    """Into the cache whole or not at all."""
    part = FOLDER / f".{program.name}.part"
    shutil.copy2(program, part)
    part.rename(FOLDER / program.name)


def _go(arguments: list[str], folder: Path, **environment: str) -> str:
    command = ["go", *arguments]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BUILD_TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        raise BuildError(f"go {arguments[0]} took longer than {BUILD_TIMEOUT} s") from None
    if done.returncode:
        raise BuildError(f"go {' '.join(arguments[:3])} … failed: {(done.stderr or done.stdout)[-1500:]}")
    return done.stdout


if __name__ == "__main__":
    started = time.monotonic()
    for program in sorted(build().iterdir()):
        if program.name in NAMES:
            print(f"{program.stat().st_size / 1e6:8.1f} MB  {program}")
    print(f"ready after {time.monotonic() - started:.0f} s")
