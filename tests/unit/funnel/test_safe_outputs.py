"""What a task leaves behind, as the service's own user finds it: no link, and no folder that hides one."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gdi.funnel.safe_outputs import make_plain

USER = 65534  # root may list everything; the service is not root


@pytest.fixture
def root() -> Iterator[Path]:
    """A task's own root, which belongs to the service's user."""
    made = Path(tempfile.mkdtemp())
    if os.geteuid() == 0:
        os.chown(made, USER, USER)
    try:
        yield made
    finally:
        subprocess.run(["chmod", "-R", "u+rwx", str(made)], check=True)
        shutil.rmtree(made)


@contextmanager
def as_service() -> Iterator[None]:
    mine = os.geteuid() == 0
    if mine:
        os.seteuid(USER)
    try:
        yield
    finally:
        if mine:
            os.seteuid(0)


def test_a_link_in_a_folder_that_cannot_be_listed_is_removed(root: Path) -> None:
    """Mode 0311: nobody may list it, and whoever knows the name opens what the link leads to."""
    task, out, secret = root / "task", root / "task/out", root / "secret"
    places = (out / "a/b", out / "a", out)
    with as_service():
        secret.write_text("of the node")
        places[0].mkdir(parents=True)
        for place in places:
            (place / "key").symlink_to(secret)
            (place / "plain").write_text("own")
        for place in places:
            place.chmod(0o311)
        assert [(place / "key").read_text() for place in places] == ["of the node"] * 3
        assert make_plain(task, [out]) == 3
        assert sorted(str(p.relative_to(out)) for p in out.rglob("*")) == ["a", "a/b", "a/b/plain", "a/plain", "plain"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder of somebody else's")
def test_a_folder_that_stays_shut_is_an_error(root: Path) -> None:
    (root / "out/shut").mkdir(parents=True)
    (root / "out/shut").chmod(0o311)
    os.chown(root / "out", USER, USER)
    with as_service(), pytest.raises(PermissionError):
        make_plain(root, [root / "out"])


def test_links_to_the_tasks_own_files_become_files_and_others_go(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "sub").mkdir(parents=True)
    (out / "real").write_text("own")
    (out / "sub/link").symlink_to("/out/real")  # as the task sees it
    (out / "folder").symlink_to("/out/sub")
    (out / "host").symlink_to("/etc/hostname")
    os.mkfifo(out / "pipe")
    (out / "sub").chmod(0o555)
    assert make_plain(tmp_path, [out]) == 3
    assert sorted(p.name for p in out.rglob("*")) == ["link", "real", "sub"]
    assert (out / "sub/link").read_text() == "own" and not (out / "sub/link").is_symlink()


def test_a_link_to_a_folder_is_removed_and_not_entered(tmp_path: Path) -> None:
    folder = tmp_path / "work/d"
    (folder / "s").mkdir(parents=True)
    (folder / "s/f").write_text("x")
    (folder / "a b%20c+d").write_text("y")
    (folder / "l").symlink_to("s/f")
    (folder / "t").symlink_to("s")
    assert make_plain(tmp_path, [tmp_path / "work"]) == 1
    found = sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))
    assert found == ["a b%20c+d", "l", "s", "s/f"] and (folder / "l").read_text() == "x"
    assert not (folder / "l").is_symlink()
