"""Programs that a node's operator has already: images out of podman's, docker's, buildah's or containerd's own store
(and by skopeo from wherever it may look), and into containerd.
"""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from gdi.cli.images.layout import (
    CONTAINERD_NAME,
    MAX_BLOBS,
    MAX_MANIFEST,
    NAME,
    BlobDescriptor,
    ImageError,
    ImageLayout,
    chunks_of,
    full_name,
    parts_of,
)

SAVE: dict[str, list[str]] = {  # each writes an archive with an OCI layout in it; docker does so since version 25
    "podman": ["podman", "save", "--format", "oci-archive", "-o", "{file}", "{name}"],
    "docker": ["docker", "save", "-o", "{file}", "{name}"],
    "skopeo": ["skopeo", "copy", "--all", "docker://{name}", "oci-archive:{file}"],
    "buildah": ["buildah", "push", "{name}", "oci-archive:{file}"],
    "containerd": ["ctr", "-n", "{namespace}", "images", "export", "{file}", "{full_name}"],
}
WITHIN = 3600.0  # seconds for one image


def save(tool: str, name: str, layout: ImageLayout, *, namespace: str = "k8s.io") -> BlobDescriptor:
    """The image of the tool's store into the layout, each blob held against its digest. ImageError."""
    with tempfile.TemporaryDirectory(prefix="gdi-image-", dir=layout.folder) as work:
        file = Path(work, "image.tar")
        values = {"file": str(file), "name": name, "full_name": full_name(name), "namespace": namespace}
        _run([part.format(**values) for part in SAVE[tool]])
        with tarfile.open(file, "r:") as archive:
            members = {member.name.removeprefix("./"): member for member in archive if member.isfile()}
            if "index.json" not in members:
                raise ImageError(f"{tool} wrote no OCI layout for {name}: docker does so since version 25")

            def body(path: str) -> bytes:
                member = members.get(path)
                if member is None or member.size > MAX_MANIFEST:
                    raise ImageError(f"{tool}'s archive of {name} lacks {path[:100]}")
                return archive.extractfile(member).read()  # type: ignore[union-attr]  # a file by isfile()

            def blob(one: BlobDescriptor) -> str:
                return f"blobs/sha256/{one.digest.removeprefix('sha256:')}"

            try:
                (found,) = json.loads(body("index.json"))["manifests"]
                top = BlobDescriptor.model_validate(found)
            except (ValueError, KeyError, TypeError):
                raise ImageError(f"{tool}'s archive of {name} does not hold one image") from None
            waiting, seen = [top], set[str]()
            while waiting:
                one = waiting.pop()
                if one.digest in seen:
                    continue
                seen.add(one.digest)
                if len(seen) > MAX_BLOBS:
                    raise ImageError(f"{name} has more than {MAX_BLOBS} parts")
                if not layout.has(one):
                    member = members.get(blob(one))
                    source = archive.extractfile(member) if member else None
                    if source is None:
                        raise ImageError(f"{tool}'s archive of {name} lacks {one.digest}: pull all its platforms first")
                    layout.add(one, chunks_of(source))
                if one.is_index or one.is_manifest:
                    waiting += parts_of(one, layout.read(one))
        layout.name(name, top)
        return top


def into_containerd(names: Sequence[str], layout: ImageLayout, *, namespace: str, address: str = "") -> None:
    """The images by `ctr images import`, under the names by which Kubernetes looks for them. ImageError."""
    known = layout.names()
    blobs = {one.digest: one for name in names for one in layout.walk(known[name])}
    command = ["ctr", *(["--address", address] if address else []), "-n", namespace, "images", "import", "-"]
    entries = [
        {
            **known[name].model_dump(by_alias=True),
            "annotations": {NAME: full_name(name), CONTAINERD_NAME: full_name(name)},
        }
        for name in names
    ]
    try:
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=output)
            assert process.stdin is not None
            try:
                with tarfile.open(fileobj=process.stdin, mode="w|") as archive:
                    _add(archive, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
                    _add(archive, "index.json", json.dumps({"schemaVersion": 2, "manifests": entries}).encode())
                    for one in blobs.values():
                        archive.add(layout.blob(one), f"blobs/sha256/{one.digest.removeprefix('sha256:')}")
                process.stdin.close()
            except BrokenPipeError:
                pass  # it ended early, and says why
            code = process.wait(WITHIN)
            output.seek(0)
            if code:
                raise ImageError(f"ctr ended with {code}: {output.read(2000).decode(errors='replace').strip()}")
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ImageError(f"ctr cannot be run: {error}") from None


def _add(archive: tarfile.TarFile, name: str, body: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(body)
    archive.addfile(entry, io.BytesIO(body))


def _run(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, timeout=WITHIN, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ImageError(f"{command[0]} cannot be run: {error}") from None
    if done.returncode:
        raise ImageError(f"{command[0]} ended with {done.returncode}: {done.stderr[-500:].decode(errors='replace')}")
