"""Sandboxes that podman or docker makes: every probe of bubblewrap's sandbox over them, and that no kill leaves a
container.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gdi.runner.sandbox import Bind, Engine, Sandbox, container, python_folders
from tests.support.engine_kit import engine
from tests.support.suites.sandbox import (
    run,  # noqa: F401
    test_a_fork_bomb_is_bounded,  # noqa: F401
    test_binds_are_read_only_unless_said_otherwise,  # noqa: F401
    test_exit_codes_pass_and_an_unknown_program_is_127,  # noqa: F401
    test_killing_the_sandboxs_process_kills_everything_inside,  # noqa: F401
    test_limits_hold,  # noqa: F401
    test_no_shell_reads_the_command,  # noqa: F401
    test_nothing_of_the_host_can_be_written_also_when_the_service_runs_as_root,  # noqa: F401
    test_other_processes_the_hosts_files_and_more_namespaces_are_out_of_reach,  # noqa: F401
    test_targets_that_are_not_plain_absolute_paths_are_refused,  # noqa: F401
    test_the_environment_is_empty_and_the_services_own_is_seen_nowhere,  # noqa: F401
    test_the_status_descriptor_tells_a_failed_command_from_a_failed_sandbox_and_the_command_cannot_write_to_it,  # noqa: F401
    test_there_is_no_network_not_even_the_hosts_loopback_or_abstract_sockets,  # noqa: F401
)
from tests.support.tes_kit import wait_for

pytestmark = [pytest.mark.system, pytest.mark.timeout(700)]


@pytest.fixture(scope="module", params=container.KINDS)
def maker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with engine(request.param) as found:
        yield replace(found, scratch=tmp_path_factory.mktemp("leashes"))


def containers(maker: Engine) -> list[str]:
    """The containers of this module's scratch folder, in whatever state."""
    found = []
    for number in maker.ask("ps", "--all", "--quiet", "--filter", f"label={container.LABEL}").split():
        with contextlib.suppress(container.EngineError):  # gone since
            if str(maker.scratch) in maker.ask("inspect", "--format", "{{json .Config.Labels}}", number):
                found.append(number)
    return found


def start(maker: Engine, script: str, **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(maker.argv(Sandbox(), ["sh", "-c", script]), **options)


def test_after_a_kill_at_any_moment_no_container_is_left_when_the_next_one_swept(maker: Engine) -> None:
    """SIGKILL before the engine was asked, while it makes the container, while it starts it, and while the command
    runs.
    """

    def folder() -> bool:
        return any(maker.scratch.glob("gdi-*"))

    moments: list[Callable[[], bool]] = [lambda: True, folder, lambda: bool(containers(maker)), lambda: False]
    for moment in moments:
        child = start(maker, "echo running; sleep 100", stdout=subprocess.PIPE)
        assert child.stdout is not None
        if moment is moments[-1]:
            assert child.stdout.readline() == b"running\n"
        else:
            wait_for("the moment", moment, 60)
        child.kill()
        child.wait()
        child.stdout.close()

    def swept() -> bool:
        container.sweep(maker)
        return not containers(maker) and not list(maker.scratch.iterdir())

    wait_for("all are gone", swept, 60)


def test_a_kill_of_what_runs_needs_no_sweep(maker: Engine) -> None:
    child = start(maker, "echo running; sleep 100", stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == b"running\n"
    child.kill()
    assert child.stdout.read() == b"", "the command's end of the pipe closes: it is dead"
    child.wait()
    wait_for("the container is removed", lambda: not containers(maker), 60)


def test_a_sweep_leaves_what_lives_alone(maker: Engine) -> None:
    child = start(maker, "read line; exit 5", stdin=subprocess.PIPE)
    wait_for("it is made", lambda: containers(maker), 60)
    assert container.sweep(maker) == []
    assert child.stdin is not None
    child.stdin.close()
    assert child.wait(60) == 5
    assert containers(maker) == [] and list(maker.scratch.iterdir()) == []


def test_signals_reach_the_command_and_quit_ends_everything_before_it_returns(maker: Engine, tmp_path: Path) -> None:
    child = start(maker, "trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done", stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == b"ready\n"
    child.send_signal(signal.SIGTERM)
    assert child.wait(60) == 7
    box = Sandbox(binds=[Bind(tmp_path, "/gdi", writable=True)])
    child = subprocess.Popen(
        maker.argv(box, ["sh", "-c", "trap '' TERM QUIT; (while :; do echo x >> /gdi/beat; done) & sleep 100"])
    )
    wait_for("it beats", (tmp_path / "beat").exists, 60)
    child.send_signal(maker.kill_signal)
    assert child.wait(60) == 128 + signal.SIGKILL
    assert containers(maker) == []
    size = (tmp_path / "beat").stat().st_size
    assert (tmp_path / "beat").stat().st_size == size


def test_streams_are_the_services_own_and_nothing_of_them_is_lost(maker: Engine) -> None:
    data = os.urandom(3_000_000)
    done = subprocess.run(
        maker.argv(Sandbox(), ["sh", "-c", "cat; echo oops >&2"]),
        input=data,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == data and done.stderr == b"oops\n"
    assert (
        subprocess.run(
            maker.argv(Sandbox(), ["printf", "%s", "x" * 90_000]), capture_output=True, timeout=60, check=False
        ).stdout
        == b"x" * 90_000
    )


def test_no_path_becomes_an_option(maker: Engine, tmp_path: Path) -> None:
    odd = tmp_path / 'a,readonly=false,source="x":z'
    odd.mkdir()
    (odd / "f").write_text("seen")
    for name in ("plain,readonly=false", 'quo"te', "colon:rw", "sp ace", "equals=1"):
        done = subprocess.run(
            maker.argv(
                Sandbox(binds=[Bind(odd, f"/gdi/{name}")], workdir=f"/gdi/{name}"), ["sh", "-c", "cat f; echo no > f"]
            ),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stdout == "seen" and "Read-only" in done.stderr, (name, done)
    assert (odd / "f").read_text() == "seen"


HOSTILE = """
import ctypes, os, signal, socket
said = []
def attempt(what, call):
    try:
        call()
        said.append(what)
    except OSError:
        pass
leash = socket.socket(socket.AF_UNIX)
attempt("leash", lambda: leash.connect("/run/gdi/leash"))
attempt("memory", lambda: open("/proc/1/mem", "rb"))
for number in range(10): attempt("descriptor", lambda: os.open(f"/proc/1/fd/{number}", os.O_RDONLY))
attempt("environment", lambda: open("/proc/1/environ").read())
libc = ctypes.CDLL(None, use_errno=True)
if libc.ptrace(16, 1, 0, 0) == 0: said.append("ptrace")
for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM):
    os.kill(1, number)
attempt("unlink", lambda: os.unlink("/run/gdi/leash"))
print(said, os.listdir("/proc/self/fd"))
"""


def test_a_task_gets_nothing_by_the_process_that_watches_it(maker: Engine) -> None:
    done = subprocess.run(
        maker.argv(Sandbox(binds=python_folders()), [sys.executable, "-c", HOSTILE]),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.startswith("[] "), done
    assert len(eval(done.stdout.partition("] ")[2])) <= 4, "its three streams, and the folder it reads"


def test_an_engine_that_fails_is_told_in_its_own_words(maker: Engine) -> None:
    broken = replace(maker, arguments=("--no-such-option",))
    done = subprocess.run(broken.argv(Sandbox(), ["true"]), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 125 and "unknown flag: --no-such-option" in done.stderr
    assert list(maker.scratch.iterdir()) == []


def test_the_whole_demo_runs_where_podman_makes_the_sandboxes(maker: Engine, tmp_path: Path) -> None:
    """Tasks and Snakemake pods, by `GDI_SANDBOX` as by `--sandbox`; nothing of it is left."""
    if maker.kind != "podman":
        pytest.skip("once is enough: docker's sandboxes are tested above")
    work = Path(tempfile.mkdtemp(prefix="gdi-e-"))
    try:
        command = [
            str(Path(sys.executable).parent / "gdi"),
            "demo",
            "--exit",
            "--sandbox",
            "podman",
            "--work-dir",
            str(work),
            "--json",
            str(tmp_path / "json"),
        ]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"sandboxes by podman {maker.version}" in " ".join(done.stdout.split())
        summary = json.loads((tmp_path / "json").read_text())
        assert summary["versions"]["sandbox"] == f"podman {maker.version}"
        assert summary["sites_compared"] >= 100 and summary["sites_equal_to_pooled"] == summary["sites_compared"]
        assert (
            list((work / "sandboxes").iterdir()) == [] and containers(replace(maker, scratch=work / "sandboxes")) == []
        )
    finally:
        shutil.rmtree(work, ignore_errors=True)
