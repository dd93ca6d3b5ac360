"""Builds the Dockerfile's images without a daemon, prints their sizes, and leaves an archive of each: `python -m
tests.kubernetes.images [TARGET …]`.

buildah and debootstrap of Debian do it, as root. The base image is a small Debian with its own Python, made here;
layers, packages and archives stay in a cache folder between runs, so that a build after a change of our code takes
seconds.
"""

from __future__ import annotations

import configparser
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from functools import cache
from pathlib import Path
from types import ModuleType

from tests.support.debian import CACHE, install
from tests.support.modules import module_at

ROOT = Path(__file__).resolve().parents[2]
FOLDER = CACHE / "images"
TARGETS = ("broker", "portal", "node", "snakemake", "task", "airflow")
BUDGET_MB = {"broker": 200, "snakemake": 450}
PACKAGES = {"buildah": "/usr/bin/buildah", "debootstrap": "/usr/sbin/debootstrap"}
VERSION: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
SUITE = "bookworm"
BASE_PACKAGES = "python3,python3-venv,ca-certificates"
BASE = f"localhost/gdi-base:{SUITE}-{hashlib.sha256(BASE_PACKAGES.encode()).hexdigest()[:8]}"
STEP_TIMEOUT = 1200  # seconds
# Which registries a build may ask (none), and that it needs no signatures: all it starts from was made here.
POLICY = {"default": [{"type": "insecureAcceptAnything"}]}


class ImageError(Exception):
    """An image could not be built; the message carries the end of what the program said."""


def name_of(target: str) -> str:
    return f"localhost/gdi-{target}:{VERSION}"


def archive_of(target: str) -> Path:
    return FOLDER / f"gdi-{target}.tar"


def missing() -> str | None:
    """Why no image can be built here, or None. Installs the Debian packages where it may."""
    if os.geteuid() != 0:
        return "building images without a daemon needs root"
    return install([name for name, program in PACKAGES.items() if not Path(program).exists()])


def build(targets: tuple[str, ...] = TARGETS) -> dict[str, float]:
    """{target: MB on disk}, uncompressed. Each target's archive is at archive_of(target). Two builds at once are safe:
    the second waits. ImageError.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "lock").open("w") as lock, tempfile.TemporaryDirectory() as scratch:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (FOLDER / "policy.json").write_text(json.dumps(POLICY))
        (FOLDER / "registries.conf").write_text("unqualified-search-registries = []\n")
        if not _id_of(BASE):
            _base(Path(scratch))
        secrets = [f"--secret=id={path.name},src={path}" for path in _secrets(Path(scratch))]
        return {target: _image(target, secrets) for target in targets}


def derived(name: str, folder: Path | None, base: str, archive: Path) -> None:
    """An image of a test's own, by the Dockerfile in a folder, or an image of ours under another name; as a docker
    archive.
    """
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder is None:
            _buildah("tag", base, name)
        else:
            _buildah(
                "build",
                "--isolation=chroot",
                "--pull-never",
                "--format=oci",
                f"--tag={name}",
                f"--file={folder / 'Dockerfile'}",
                str(folder),
            )
        _buildah("push", "--quiet", name, f"docker-archive:{archive}:{name}")


@cache
def environment() -> ModuleType:
    """packaging/images/environment.py, which the Dockerfile runs and nothing imports."""
    return module_at(ROOT / "packaging" / "images" / "environment.py")


@cache
def built(target: str) -> float:
    """Its MB, as `build`, for tests: nothing is done where its archive was made of the same sources, whatever commit
    they were in.
    """
    made_of = FOLDER / f"gdi-{target}.sources"
    if not (archive_of(target).exists() and made_of.exists() and made_of.read_text() == sources()):
        build((target,))
    return archive_of(target).stat().st_size / 1e6


def sources() -> str:
    """A digest of everything that the Dockerfile copies, and of what it builds upon."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE)
    named = sorted({ROOT / name for line in copied for name in line.split()})
    files = [
        f
        for path in named
        for f in (sorted(path.rglob("*")) if path.is_dir() else [path])
        if f.is_file() and "__pycache__" not in f.parts
    ]
    digest = hashlib.sha256(f"{BASE}\0{VERSION}\0{dockerfile}".encode())
    for file in files:
        content = file.read_bytes()
        digest.update(f"{file.relative_to(ROOT)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _image(target: str, secrets: list[str]) -> float:
    name, archive, stamp, made_of = (
        name_of(target),
        archive_of(target),
        FOLDER / f"gdi-{target}.id",
        FOLDER / f"gdi-{target}.sources",
    )
    made_of.unlink(missing_ok=True)
    found = sources()
    revision = _run(["git", "-C", str(ROOT), "rev-parse", "HEAD"]).strip() if (ROOT / ".git").exists() else "unknown"
    arguments = {"BASE": BASE, "VERSION": VERSION, "REVISION": revision}
    options = [
        "--isolation=chroot",
        "--layers",
        "--pull-never",
        "--format=oci",
        "--timestamp=0",
        f"--target={target}",
        f"--tag={name}",
        *secrets,
    ]
    _buildah(
        "build",
        *options,
        *(f"--build-arg={k}={v}" for k, v in arguments.items()),
        f"--file={ROOT / 'Dockerfile'}",
        str(ROOT),
    )
    made = _id_of(name)
    if not archive.exists() or not stamp.exists() or stamp.read_text() != made:
        archive.unlink(missing_ok=True)
        _buildah("push", "--quiet", name, f"docker-archive:{archive}:{name}")
        stamp.write_text(made)
    made_of.write_text(found)
    return archive.stat().st_size / 1e6


def _base(scratch: Path) -> None:
    """Debian's smallest system and its Python, from the mirror that this machine's apt uses."""
    mirror = _run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", f"Codename: {SUITE}"]
    ).splitlines()
    root = scratch / "root"
    _run(["debootstrap", "--variant=minbase", f"--include={BASE_PACKAGES}", SUITE, str(root), *mirror[:1]])
    for device in (root / "dev").iterdir():  # the runtime brings its own
        shutil.rmtree(device) if device.is_dir() and not device.is_symlink() else device.unlink()
    working = _buildah("from", "scratch").strip()
    _buildah("copy", "--quiet", working, str(root), "/")
    _buildah(
        "config", "--env=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "--cmd=/bin/bash", working
    )
    _buildah("commit", "--quiet", "--rm", working, BASE)
    shutil.rmtree(root)


def _secrets(scratch: Path) -> list[Path]:
    """How this machine reaches its package indexes, as files for the build alone: never in an image, never in a layer's
    history.
    """
    made = []
    authorities = next(
        (p for p in (os.environ.get("SSL_CERT_FILE"), "/etc/ssl/certs/ca-certificates.crt") if p and Path(p).exists()),
        None,
    )
    if authorities:
        made.append(scratch / "ca")
        shutil.copy(authorities, made[-1])
    pip = _pip_settings()
    if pip:
        settings = configparser.RawConfigParser()
        settings["global"] = pip
        made.append(scratch / "pip.conf")
        with made[-1].open("w") as file:
            settings.write(file)
    uv = next((p for p in (Path.home() / ".config/uv/uv.toml", Path("/etc/uv/uv.toml")) if p.exists()), None)
    index = os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("UV_INDEX_URL") or pip.get("index-url")
    if uv or index:
        made.append(scratch / "uv.toml")
        made[-1].write_text(uv.read_text() if uv else f"[[index]]\nurl = {json.dumps(index)}\ndefault = true\n")
    for path in made:
        path.chmod(0o600)
    return made


def _pip_settings() -> dict[str, str]:
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, timeout=60)
    if listed.returncode:  # an environment made by uv has no pip
        listed = (
            subprocess.run(["pip", "config", "list"], capture_output=True, text=True, timeout=60)
            if shutil.which("pip")
            else listed
        )
    found = dict(
        re.findall(r"^(?:global|:env:)\.(index-url|extra-index-url|trusted-host)='(.*)'$", listed.stdout, re.MULTILINE)
    )
    return {str(k): str(v).replace("\\n", "\n") for k, v in found.items()}


def _driver() -> str:
    """overlay shares layers on disk and is fast; inside a container's own overlay it cannot be had."""
    probe = FOLDER / "probe"
    for name in ("lower", "upper", "work", "merged"):
        (probe / name).mkdir(parents=True, exist_ok=True)
    options = ",".join(
        f"{k}={probe / v}" for k, v in (("lowerdir", "lower"), ("upperdir", "upper"), ("workdir", "work"))
    )
    mounted = subprocess.run(
        ["mount", "-t", "overlay", "overlay", "-o", options, str(probe / "merged")], capture_output=True
    )
    if mounted.returncode == 0:
        subprocess.run(["umount", str(probe / "merged")], check=True)
    shutil.rmtree(probe, ignore_errors=True)
    return "overlay" if mounted.returncode == 0 else "vfs"


def _buildah(command: str, *arguments: str) -> str:
    driver = FOLDER / "driver"
    if not driver.exists():
        driver.write_text(_driver())
    where = [
        "--root",
        str(FOLDER / "storage"),
        "--runroot",
        str(FOLDER / "run"),
        "--storage-driver",
        driver.read_text(),
    ]
    policy = (
        ["--signature-policy", str(FOLDER / "policy.json")] if command in ("build", "push", "from", "commit") else []
    )
    return _run(["buildah", *where, "--registries-conf", str(FOLDER / "registries.conf"), command, *policy, *arguments])


def _id_of(name: str) -> str:
    """The image's id, or "" where it is not there."""
    for image in json.loads(_buildah("images", "--json") or "[]") or []:
        if name in (image.get("names") or []):
            return str(image["id"])
    return ""


def _run(command: list[str]) -> str:
    environment = {**os.environ, "TMPDIR": str(FOLDER), "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=STEP_TIMEOUT
        )
    except subprocess.TimeoutExpired:
        raise ImageError(f"{command[0]} took longer than {STEP_TIMEOUT} s") from None
    if done.returncode:
        raise ImageError(
            f"{' '.join(command[:1])} failed with exit code"
            f" {done.returncode}:\n{(done.stdout[-1500:] + done.stderr[-2500:]).strip()}"
        )
    return done.stdout


def main() -> int:
    wanted = tuple(sys.argv[1:]) or TARGETS
    if unknown := set(wanted) - set(TARGETS):
        print(f"images: unknown target {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}", file=sys.stderr)
        return 2
    if why := missing():
        print(f"images: {why}", file=sys.stderr)
        return 2
    started = time.monotonic()
    try:
        sizes = build(wanted)
    except ImageError as error:
        print(f"images: {error}", file=sys.stderr)
        return 1
    too_big = 0
    for target, size in sizes.items():
        budget = BUDGET_MB.get(target)
        too_big += budget is not None and size > budget
        print(
            f"{name_of(target):32} {size:7.1f} MB uncompressed{f', at most {budget} MB' if budget else ''}"
            f" ({platform.machine()})"
        )
    print(f"ready after {time.monotonic() - started:.0f} s")
    return 1 if too_big else 0


if __name__ == "__main__":
    sys.exit(main())
