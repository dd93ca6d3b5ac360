"""What a task's processes use together is bounded: by a cgroup (as root here), and by the supervisor (as any user).
Each bound: its effect where it is off, its end where it is on. Over the sandbox and the TES's own way to run it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from gdi.local_federation.tes import execute
from gdi.local_federation.tes.models import TaskExecutor
from gdi.runner.sandbox import Bind, Bubblewrap, Sandbox, cgroups, find_bwrap, python_folders
from gdi.runner.sandbox.bounds import enforced, unbounded
from gdi.runner.sandbox.supervisor import Bounds

MIB = 1024 * 1024
SMALL = Bounds(memory=200 * MIB, disk=20 * MIB, files=500)
NONE = Bounds()
GROUPS = cgroups.find()
WAYS = ["supervisor", "cgroup"] if os.geteuid() == 0 else ["supervisor"]  # CI runs as root: both ways run there

WRITES = """
import os
for i in range(40):
    with open(f"/gdi/work/{i}", "wb") as file:
        file.write(os.urandom(4 * 1024 * 1024)); file.flush(); os.fsync(file.fileno())
print("done", flush=True)
"""
FILES = """
import time
for i in range(5000):
    open(f"/gdi/work/{i}", "w").close()
time.sleep(REST)
print("done", flush=True)
"""
MEMORY = """
import os, time
children = []
for _ in range(4):
    if (pid := os.fork()) == 0:
        kept = bytearray(os.urandom(1024 * 1024) * 100)
        time.sleep(REST)
        os._exit(0)
    children.append(pid)
codes = [os.waitpid(pid, 0)[1] for pid in children]
print("done" if not any(codes) else codes, flush=True)
"""


def resting(code: str, seconds: int) -> str:
    return code.replace("REST", str(seconds))


def run(tmp_path: Path, code: str, bounds: Bounds, way: str, cpus: float | None = None) -> execute.Ended:
    root = tmp_path / "root"
    (root / "gdi/work").mkdir(parents=True, exist_ok=True)
    maker = Bubblewrap(find_bwrap())
    box = Sandbox(binds=[*python_folders(), Bind(root / "gdi/work", "/gdi/work", writable=True)], workdir="/gdi/work")
    executor = TaskExecutor(image="x", command=[sys.executable, "-c", code])
    groups = GROUPS if way == "cgroup" else None

    async def whole() -> execute.Ended:
        async with enforced(maker, bounds, [root], cpus=cpus, processes=256, groups=groups) as in_force:
            return await execute.run(executor, box, maker, root, 300, in_force)

    return asyncio.run(whole())


def test_as_root_a_cgroup_can_be_had() -> None:
    if os.geteuid() == 0:
        assert GROUPS is not None and "memory" in GROUPS.bounded


@pytest.mark.parametrize("way", WAYS)
def test_bytes_on_disk_are_bounded_together(tmp_path: Path, way: str) -> None:
    assert run(tmp_path / "off", WRITES, NONE, way).stdout == "done\n"
    ended = run(tmp_path / "on", WRITES + "import time; time.sleep(300)", SMALL, way)
    assert ended.exit_code == execute.KILLED and ended.problem and "more disk" in ended.problem


@pytest.mark.parametrize("way", WAYS)
def test_files_are_bounded_together(tmp_path: Path, way: str) -> None:
    assert run(tmp_path / "off", resting(FILES, 0), NONE, way).stdout == "done\n"
    ended = run(tmp_path / "on", resting(FILES, 300), SMALL, way)
    assert ended.exit_code == execute.KILLED and ended.problem and "more files" in ended.problem


@pytest.mark.parametrize("way", WAYS)
def test_memory_of_all_processes_is_bounded_together(tmp_path: Path, way: str) -> None:
    """Each of four processes is within the bound; together they are not."""
    assert run(tmp_path / "off", resting(MEMORY, 0), NONE, way).stdout == "done\n"
    ended = run(tmp_path / "on", resting(MEMORY, 300 if way == "supervisor" else 1), SMALL, way)
    assert "done" not in ended.stdout, ended
    if way == "supervisor":
        assert ended.exit_code == execute.KILLED and ended.problem and "more memory" in ended.problem


@pytest.mark.skipif(os.geteuid() != 0, reason="the supervisor cannot bound it, and says so")
def test_cpu_is_bounded_by_the_cgroup(tmp_path: Path) -> None:
    code = """
import time
began, used = time.monotonic(), time.process_time()
while time.monotonic() - began < 3:
    pass
print(time.process_time() - used)
"""
    assert float(run(tmp_path, code, NONE, "cgroup", cpus=0.1).stdout) < 1.2, "a tenth of three seconds, and its burst"


def test_what_cannot_be_bounded_is_told() -> None:
    maker = Bubblewrap(find_bwrap())
    assert any("CPU is not bounded" in sentence for sentence in unbounded(maker, None))
    assert not any("CPU" in sentence for sentence in unbounded(maker, GROUPS)) or GROUPS is None


def test_the_filter_refuses_what_no_analysis_needs(tmp_path: Path) -> None:
    code = """
import ctypes, os, platform
numbers = {"x86_64": (250, 321, 323, 425, 101, 272, 435), "aarch64": (219, 280, 282, 425, 117, 97, 435)}
libc = ctypes.CDLL(None, use_errno=True)
found = []
for number in numbers[platform.machine()]:
    ctypes.set_errno(0)
    result = libc.syscall(number, 0, 0, 0, 0, 0)
    found.append(ctypes.get_errno() if result < 0 else 0)
print(found)
import subprocess, threading
threading.Thread(target=print, args=("thread",)).start()
print(subprocess.run(["echo", "child"], capture_output=True, text=True).stdout.strip())
"""
    ended = run(tmp_path, code, NONE, "supervisor")
    first = ended.stdout.splitlines()[0]
    assert first == "[1, 1, 1, 1, 1, 1, 38]", ended
    assert "thread" in ended.stdout and "child" in ended.stdout


def test_the_first_process_names_no_path_of_the_host(tmp_path: Path) -> None:
    ended = run(tmp_path, "print(open('/proc/1/cmdline').read(), open('/proc/1/environ').read())", NONE, "supervisor")
    assert "bwrap" in ended.stdout and str(tmp_path) not in ended.stdout
    assert str(find_bwrap()) not in ended.stdout, ended.stdout
