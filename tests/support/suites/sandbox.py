"""What a program in the sandbox can reach: nothing of the host, no network, no environment, no other process.

Over bubblewrap here; tests/system/test_sandbox_engines.py runs the same tests over podman and docker.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from gdi.runner import sandbox
from gdi.runner.sandbox import (
    Bind,
    Bubblewrap,
    Engine,
    Maker,
    Sandbox,
    SandboxLimits,
    UnsafePathError,
    bubblewrap,
    container,
    makers,
)

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def maker() -> Maker:
    return Bubblewrap(sandbox.find_bwrap())


@pytest.fixture(scope="module")
def run(maker: Maker) -> Run:
    def made(box: Sandbox, *command: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            maker.argv(box, command), capture_output=True, text=True, timeout=60, env=env, check=False
        )

    return made


def test_the_environment_is_empty_and_the_services_own_is_seen_nowhere(run: Run) -> None:
    done = run(
        Sandbox(),
        "sh",
        "-c",
        "env; cat /proc/*/environ /proc/*/cmdline; true",
        env={**os.environ, "AWS_SECRET_ACCESS_KEY": "planted-4711"},
    )
    assert done.returncode == 0, done.stderr
    assert "planted-4711" not in done.stdout
    assert {line.split("=")[0] for line in done.stdout.split("\0")[0].splitlines() if line[0] != "/"} <= {
        "PATH",
        "HOME",
        "PWD",
        "SHLVL",
        "_",
        "OLDPWD",
    }


def test_there_is_no_network_not_even_the_hosts_loopback_or_abstract_sockets(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind("\0gdi-sandbox-test")
        abstract.listen()
        code = f"""
import socket
for family, address in ((socket.AF_INET, ("127.0.0.1", {tcp.getsockname()[1]})),
                        (socket.AF_UNIX, "\\0gdi-sandbox-test")):
    try:
        socket.socket(family).connect(address)
        print("reached", address)
    except OSError as error:
        print("refused", error.errno)
"""
        done = run(Sandbox(binds=sandbox.python_folders()), sys.executable, "-c", code)
    assert done.stdout.count("refused") == 2, done.stdout + done.stderr


def test_nothing_of_the_host_can_be_written_also_when_the_service_runs_as_root(run: Run) -> None:
    code = """
import os
bad = []
for top in ("/proc/sys", "/proc/irq", "/proc/bus", "/etc", "/usr/local"):
    for folder, _, files in os.walk(top):
        for name in files:
            path = os.path.join(folder, name)
            try:
                os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
                bad.append(path)
            except OSError:
                pass

for folder in ("/", "/usr", "/etc", "/var", "/dev/pts/x"):
    try:
        open(folder + "/x", "w"); bad.append(folder)
    except OSError:
        pass
print(bad)
"""
    done = run(Sandbox(binds=sandbox.python_folders()), sys.executable, "-c", code)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_other_processes_the_hosts_files_and_more_namespaces_are_out_of_reach(run: Run, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("planted-4711")
    script = (
        f"ls /proc | grep -c '^[0-9]'; cat {tmp_path}/secret /etc/shadow /root/.bashrc; unshare -U true; mount -t tmpfs"
        " x /tmp; grep CapEff /proc/self/status"
    )
    done = run(Sandbox(), "sh", "-c", script)
    assert "planted-4711" not in done.stdout
    lines = done.stdout.split()
    assert int(lines[0]) <= 5, "only the sandbox's own processes are seen"
    assert lines[-1] == "0000000000000000"
    assert done.stderr.count("No such file") == 3
    assert "unshare failed" in done.stderr or "Operation not permitted" in done.stderr


def test_binds_are_read_only_unless_said_otherwise(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("input")
    (tmp_path / "work").mkdir()
    box = Sandbox(
        binds=[Bind(tmp_path / "work", "/gdi/work", writable=True), Bind(tmp_path / "in", "/gdi/work/in")],
        workdir="/gdi/work",
    )
    done = run(box, "sh", "-c", "cat in > out; echo no > in; rm -f in; rm -f out2; echo yes > out2; echo x > /gdi/new")
    assert (tmp_path / "in").read_text() == "input"
    assert (tmp_path / "work/out").read_text() == "input"
    assert (tmp_path / "work/out2").read_text() == "yes\n"
    assert not (tmp_path / "new").exists() and "Read-only" in done.stderr


def test_exit_codes_pass_and_an_unknown_program_is_127(run: Run) -> None:
    assert run(Sandbox(), "sh", "-c", "exit 42").returncode == 42
    assert run(Sandbox(), "no-such-program").returncode == 127
    assert run(Sandbox(), "/etc/passwd").returncode == 126


def test_no_shell_reads_the_command(run: Run) -> None:
    done = run(Sandbox(environment={"V": "$(id) 'q' \n"}), "printf", "%s|", "$HOME", "a b", "$(id)", "'", "*")
    assert done.stdout == "$HOME|a b|$(id)|'|*|"
    assert run(Sandbox(environment={"V": "$(id) \"'\n"}), "printenv", "V").stdout == "$(id) \"'\n\n"


def test_the_status_descriptor_tells_a_failed_command_from_a_failed_sandbox_and_the_command_cannot_write_to_it(
    maker: Maker, tmp_path: Path
) -> None:
    for box, command, said in (
        (
            Sandbox(),
            [
                "sh",
                "-c",
                (
                    "for i in 3 4 5 6 7 8 9 10 11 12 13 14 15; do echo '{\"exit-code\": 0}' > /proc/self/fd/$i; done;"
                    " exit 3"
                ),
            ],
            '"exit-code": 3',
        ),
        (Sandbox(workdir="/nowhere"), ["true"], None),
        (Sandbox(binds=[Bind(tmp_path / "absent", "/gdi/x")]), ["true"], None),
    ):
        read, write = os.pipe()
        child = subprocess.Popen(maker.argv(box, command, status_fd=write), pass_fds=[write], stderr=subprocess.DEVNULL)
        os.close(write)
        child.wait(60)
        with os.fdopen(read) as status:
            text = status.read()
        assert (said in text and text.count("exit-code") == 1) if said else "exit-code" not in text


def test_killing_the_sandboxs_process_kills_everything_inside(maker: Maker, tmp_path: Path) -> None:
    box = Sandbox(binds=[Bind(tmp_path, "/gdi", writable=True)])
    child = subprocess.Popen(
        maker.argv(
            box, ["sh", "-c", "(setsid sh -c 'while :; do sleep 0.05; echo x >> /gdi/beat; done' &) ; sleep 100"]
        )
    )
    beat = tmp_path / "beat"
    wait = threading.Event()
    for _ in range(200):
        if beat.exists():
            break
        wait.wait(0.05)
    child.kill()
    child.wait(120)
    wait.wait(0.3)
    size = beat.stat().st_size
    wait.wait(0.5)
    assert beat.stat().st_size == size


def test_limits_hold(run: Run) -> None:
    big = run(
        Sandbox(limits=SandboxLimits(address_space=200 * 2**20), binds=sandbox.python_folders()),
        sys.executable,
        "-c",
        "bytearray(400 * 2**20)",
    )
    assert "MemoryError" in big.stderr
    file = run(
        Sandbox(limits=SandboxLimits(file_size=4096)), "sh", "-c", "head -c 100000 /dev/zero > /tmp/x; wc -c < /tmp/x"
    )
    assert file.stdout.strip() == "4096"
    tmp = run(Sandbox(tmp_bytes=2**20), "sh", "-c", "head -c 10000000 /dev/zero > /tmp/x; wc -c < /tmp/x")
    assert int(tmp.stdout) <= 2**20
    cpu = run(Sandbox(limits=SandboxLimits(cpu_seconds=1)), "sh", "-c", "while :; do :; done")
    assert cpu.returncode > 128


def _root_to_the_kernel() -> bool:
    """Also in a user namespace where root goes by another number."""
    first, outside, _ = (int(n) for n in Path("/proc/self/uid_map").read_text().split()[:3])
    return os.geteuid() - first + outside == 0


def test_a_fork_bomb_is_bounded(maker: Maker, run: Run) -> None:
    if _root_to_the_kernel() and not (isinstance(maker, Engine) and maker.counted):
        pytest.skip("the kernel does not count root's processes")
    assert (
        "fork"
        in run(Sandbox(limits=SandboxLimits(processes=20)), "sh", "-c", "for i in $(seq 40); do sleep 1 & done").stderr
    )


@pytest.mark.parametrize("bad", ["relative", "/a/../b", "/a\0b"])
def test_targets_that_are_not_plain_absolute_paths_are_refused(maker: Maker, bad: str) -> None:
    with pytest.raises(ValueError, match=r"absolute|NUL"):
        maker.argv(Sandbox(binds=[Bind(Path("/tmp"), bad)]), ["true"])
    with pytest.raises(ValueError, match="environment variable"):
        maker.argv(Sandbox(environment={"A=B": "x"}), ["true"])


def test_the_preflight_says_how_to_mend_a_machine_that_forbids_sandboxes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(bubblewrap, "candidates", lambda: [broken])
    monkeypatch.setattr(bubblewrap, "_kernel", lambda name: "1" if "apparmor" in name else None)
    monkeypatch.setattr(bubblewrap.os, "geteuid", lambda: 1000)
    monkeypatch.setenv(makers.VARIABLE, "bubblewrap")
    try:
        forget()
        said = sandbox.why_not() or ""
        forget()
        monkeypatch.setattr(bubblewrap, "candidates", lambda: [])
        absent = sandbox.why_not() or ""
        monkeypatch.setenv(makers.VARIABLE, "chroot")
        unknown = sandbox.why_not() or ""
    finally:
        forget()
    assert (
        "setting up uid map" in said
        and "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0" in said
        and f"{broken} flags=(unconfined)" in said
    )
    assert "not installed" in absent
    assert "'chroot' is not known; it may be bubblewrap, podman, docker" in unknown


def forget() -> None:
    """What was found out about this machine."""
    bubblewrap.find_bwrap.cache_clear()
    makers._find.cache_clear()


def test_podman_or_docker_serve_where_bubblewrap_may_not_and_what_each_says_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With engines that say no: one without a daemon, one that is not there. (Real ones:
    tests/system/test_sandbox_engines.py.)
    """
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon. Is it running?' >&2\nexit 1\n")
    docker.chmod(0o755)
    monkeypatch.setattr(bubblewrap, "candidates", lambda: [])
    monkeypatch.setattr(container.shutil, "which", lambda name, path: str(docker) if name == "docker" else None)
    monkeypatch.delenv(makers.VARIABLE, raising=False)
    forget()
    try:
        said = sandbox.why_not() or ""
        assert (
            "bubblewrap is not installed" in said
            and "podman is not installed" in said
            and f"{docker}: Cannot connect to the Docker daemon" in said
        )
        engine = Engine("podman", Path("/usr/bin/podman"), "4", tmp_path, {})
        monkeypatch.setattr(container, "find", lambda kind: engine)
        forget()
        assert sandbox.find_maker() is engine
    finally:
        forget()


@pytest.mark.parametrize("target", ["/", "/run/gdi/leash", "/proc/1", "/dev/x", "/gdi/line\nbreak"])
def test_a_container_has_no_mounts_where_its_own_things_are(tmp_path: Path, target: str) -> None:
    with pytest.raises(ValueError, match="mounted"):
        Engine("docker", Path("/usr/bin/docker"), "1", tmp_path, {}).argv(
            Sandbox(binds=[Bind(tmp_path, target)]), ["true"]
        )


def test_a_link_never_leads_out_of_the_root(tmp_path: Path) -> None:
    outside = tmp_path / "secret"
    outside.write_text("planted-4711")
    root = tmp_path / "root"
    (root / "gdi").mkdir(parents=True)
    (root / "gdi/file").write_text("inside")
    for name, target in {
        "abs": str(outside),
        "up": "../../../secret",
        "good": "/gdi/file",
        "loop": "loop",
        "rel": "./good",
        "dir": "..",
    }.items():
        (root / "gdi" / name).symlink_to(target)
    os.mkfifo(root / "gdi/pipe")

    def read(path: str) -> str:
        with os.fdopen(sandbox.open_in_root(root, path)) as file:
            return file.read()

    assert (
        read("/gdi/good")
        == read("/gdi/rel")
        == read("/gdi/dir/gdi/file")
        == read("/../gdi/dir/../gdi/file")
        == "inside"
    )
    for path in ("/gdi/abs", "/gdi/up", "/gdi/loop", "/gdi/pipe", "/gdi", "/"):
        with pytest.raises((FileNotFoundError, UnsafePathError, IsADirectoryError)):
            read(path)
