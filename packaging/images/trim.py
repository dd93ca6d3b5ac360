"""Runs inside the base image as it is built: adds the numeric user, takes out what no process of ours uses and every
set-uid bit.
"""

from __future__ import annotations

import compileall
import shutil
import stat
import sys
import sysconfig
from pathlib import Path
from py_compile import PycInvalidationMode

USER = 10001
PYTHON = Path(sysconfig.get_path("stdlib"))
SITES = [
    Path(sysconfig.get_path("purelib")),
    Path("/usr/local/lib/python3.11/dist-packages"),
    Path("/usr/lib/python3/dist-packages"),
]
# Package managers, their caches and their documentation: an image is replaced, never changed. /var/lib/dpkg/status
# stays: scanners for known flaws read it.
GONE = [
    "/usr/share/doc",
    "/usr/share/man",
    "/usr/share/info",
    "/usr/share/locale",
    "/usr/share/i18n",
    "/usr/share/lintian",
    "/usr/share/bash-completion",
    "/usr/share/perl5",
    "/usr/share/python-wheels",
    "/usr/share/zsh",
    "/usr/share/gcc",
    "/usr/share/gdb",
    "/var/cache",
    "/var/log",
    "/var/lib/apt",
    "/var/lib/dpkg/info",
    "/etc/apt",
    "/usr/lib/apt",
    "/usr/libexec/dpkg",
    "/usr/include",
    "/usr/local/include",
    "/boot",
    "/media",
    "/srv",
]
GONE_PROGRAMS = [
    "apt*",
    "dpkg*",
    "perl*",
    "pip*",
    "idle*",
    "pydoc*",
    "debconf*",
    "gpgv*",
    "deb-systemd*",
    "update-rc.d",
    "2to3*",
    "python*-config",
]
GONE_PROGRAMS += [
    "su",
    "passwd",
    "chsh",
    "chfn",
    "newgrp",
    "gpasswd",
    "mount",
    "umount",
    "chroot",
    "nsenter",
    "unshare",
]  # what becomes somebody else
GONE_LIBRARIES = ["libapt-*.so*", "perl-base", "perl", "libperl*"]
# glibc's converters, but for those of its smallest package in newer Debians: Python has its own.
CONVERTERS = {"ISO8859-1.so", "ISO8859-15.so", "CP1252.so", "UNICODE.so", "UTF-16.so", "UTF-32.so", "UTF-7.so"}
GONE_PYTHON = [
    "ensurepip",
    "idlelib",
    "lib2to3",
    "test",
    "tkinter",
    "turtledemo",
    "turtle.py",
    "config-*",
    "pydoc_data",
    "venv/scripts",
]
GONE_SITES = ["pip*", "setuptools*", "wheel*", "_distutils_hack", "distutils-precedence.pth", "pkg_resources*"]


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def main() -> None:
    for name in GONE:
        remove(Path(name))
    folders: list[tuple[Path, list[str]]] = [(PYTHON, GONE_PYTHON), *((site, GONE_SITES) for site in SITES)]
    folders += [(Path(d), GONE_PROGRAMS) for d in ("/usr/bin", "/usr/sbin", "/usr/local/bin")]
    folders += [(d, GONE_LIBRARIES) for d in (Path("/usr/lib"), *Path("/usr/lib").glob("*-linux-gnu"))]
    for folder, patterns in folders:
        for pattern in patterns:
            for path in list(folder.glob(pattern)):
                remove(path)
    for path in Path("/usr/lib").glob("*-linux-gnu/gconv/*.so"):
        if path.name not in CONVERTERS:
            path.unlink()
    for top in ("/usr", "/opt", "/root", "/tmp", "/var/tmp"):  # noqa: S108
        for cache in list(Path(top).rglob("__pycache__")):
            shutil.rmtree(cache, ignore_errors=True)
    # Python's own modules, by the image's Python: on a read-only file system each process would compile them again, a
    # third of a second of every start.
    if not compileall.compile_dir(PYTHON, quiet=1, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH):
        sys.exit(f"{PYTHON} does not compile; the lines above say what")
    for path in Path("/usr").rglob("*"):
        if not path.is_symlink() and path.is_file() and (mode := path.stat().st_mode) & (stat.S_ISUID | stat.S_ISGID):
            path.chmod(stat.S_IMODE(mode) & 0o0777)
    for name in ("/var/log", "/var/cache"):
        Path(name).mkdir(parents=True)
    with Path("/etc/passwd").open("a") as users, Path("/etc/group").open("a") as groups:
        users.write(f"gdi:x:{USER}:{USER}::/tmp:/usr/sbin/nologin\n")
        groups.write(f"gdi:x:{USER}:\n")


main()
