"""An image as plain folders, for nodes whose TES runs tasks in sandboxes over the machine's own system: it sees them
read-only at the same path. Programs in it run on the machine's libraries, not on the image's.
"""

from __future__ import annotations

import json
import platform
import shutil
import tarfile
import tempfile
from pathlib import Path, PurePosixPath
from typing import Any

from gdi.cli.images.layout import BlobDescriptor, ImageError, ImageLayout, parts_of

HIDDEN, OPAQUE = ".wh.", ".wh..wh..opq"  # OCI image-spec, layers: whiteouts
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
MAX_FILES = 1_000_000
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def unpack(name: str, layout: ImageLayout, folder: Path, *, limit: int) -> dict[str, Any]:
    """The image below `folder`, each version in a folder of its digest, at most `limit` bytes; what stands in `images`
    of the TES's configuration for it. ImageError; nothing is left of a half one.
    """
    manifest = _of_machine(name, layout, layout.names()[name])
    root = folder.resolve() / manifest.digest.replace(":", "-")
    for _ in layout.walk(manifest):
        pass  # each blob is held against its digest
    config, *layers = parts_of(manifest, layout.read(manifest))
    if not root.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".image-", dir=folder) as work:
            place = Path(work, "root")
            place.mkdir(mode=0o755)
            files, size = 0, 0
            for layer in layers:
                try:
                    with tarfile.open(layout.blob(layer), "r:*") as archive:
                        for member in archive:
                            files, size = files + 1, size + member.size
                            if files > MAX_FILES or size > limit:
                                raise ImageError(f"{name} has more than {limit} bytes or {MAX_FILES} files unpacked")
                            _apply(archive, member, place)
                except (tarfile.TarError, OSError) as error:
                    raise ImageError(f"{name}: the layer {layer.digest} cannot be unpacked: {error}") from None
            place.rename(root)
    env = json.loads(layout.read(config)).get("config", {}).get("Env") or []
    path = next((value for key, _, value in (str(one).partition("=") for one in env) if key == "PATH"), DEFAULT_PATH)
    inside = ":".join(f"{root}{part}" for part in path.split(":") if part)
    return {"match": name, "folders": [str(root)], "path": inside}


def _of_machine(name: str, layout: ImageLayout, top: BlobDescriptor) -> BlobDescriptor:
    if not top.is_index:
        return top
    mine = ARCHITECTURES.get(platform.machine(), platform.machine())
    for one in parts_of(top, layout.read(top)):
        place = (one.model_extra or {}).get("platform") or {}
        if one.is_manifest and (place.get("os"), place.get("architecture")) == ("linux", mine):
            return one
    raise ImageError(f"{name} has no version for linux/{mine}")


def _apply(archive: tarfile.TarFile, member: tarfile.TarInfo, root: Path) -> None:
    """One entry of a layer; a whiteout removes what a layer below had. Nothing leaves `root`: the filter sees to it."""
    path = PurePosixPath(member.name.lstrip("/"))
    if ".." in path.parts:
        raise ImageError(f"an entry leaves the image: {member.name[:200]!r}")
    if path.name.startswith(HIDDEN):
        parent, hidden = root / path.parent, path.name.removeprefix(HIDDEN)
        if not parent.resolve().is_relative_to(root.resolve()) or hidden in ("", ".", ".."):
            raise ImageError(f"an entry leaves the image: {member.name[:200]!r}")
        if not parent.is_dir():
            return
        gone = list(parent.iterdir()) if path.name == OPAQUE else [parent / hidden]
        for one in gone:
            shutil.rmtree(one) if one.is_dir() and not one.is_symlink() else one.unlink(missing_ok=True)
        return
    if member.isdev():
        return  # a sandbox brings its own
    linked = PurePosixPath(member.linkname)
    if member.islnk() and (
        linked.is_absolute()
        or ".." in linked.parts
        or not (root / linked).parent.resolve().is_relative_to(root.resolve())
    ):
        raise ImageError(f"a link leaves the image: {member.name[:200]!r}")
    target = root / path
    if target.is_symlink() or (target.is_file() and not member.isdir()):
        target.unlink()
    mine = member.replace(uid=None, gid=None, uname=None, gname=None, deep=False)  # type: ignore[arg-type]  # "None" keeps
    archive.extract(mine, root, filter="tar")
