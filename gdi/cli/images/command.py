"""`gdi workflow images`: which images a workflow needs; them into a folder, and from the folder to where they run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
import yaml
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from rich.console import Console
from rich.text import Text

from gdi.cli.images.layout import ImageError, ImageLayout
from gdi.cli.images.registry import Registry
from gdi.cli.images.root_folder import unpack
from gdi.cli.images.signatures import key_of, need_signed
from gdi.cli.images.tools import into_containerd, save
from gdi.contracts.workflow import CatalogueError
from gdi.kit.secret_files import read_secret_text
from gdi.kit.settings import SettingsError

GB = 10**9
Target = StrEnum("Target", ["containerd", "registry", "folder"])
Source = StrEnum("Source", ["podman", "docker", "skopeo", "buildah", "containerd"])
Export = Annotated[
    Path | None, typer.Option("--export", metavar="FOLDER", help="write the images there, as an OCI image layout")
]
Import = Annotated[Path | None, typer.Option("--import", metavar="FOLDER", help="bring the images of such a folder")]
From = Annotated[
    Source | None, typer.Option("--from", help="take them from this program's store instead of a registry")
]
Into = Annotated[Target, typer.Option("--into", help="where --import brings them")]
RegistryUrl = Annotated[
    str, typer.Option("--registry", metavar="URL", help="the mirror to pull from or push to (default: by their names)")
]
Credentials = Annotated[
    Path | None, typer.Option(metavar="FILE", help="USER:PASSWORD for the registry, in a file of mode 0600")
]
PlainHttp = Annotated[bool, typer.Option("--plain-http", help="the registry has no TLS, and the way to it is safe")]
Roots = Annotated[Path | None, typer.Option("--roots", metavar="FOLDER", help="with --into folder: where to unpack")]
Namespace = Annotated[str, typer.Option(metavar="NAME", help="containerd's; Kubernetes has k8s.io")]
Key = Annotated[
    Path | None, typer.Option("--key", metavar="FILE", help="cosign's public key: each image must be signed by it")
]
Limit = Annotated[int, typer.Option("--limit-gb", min=1, max=10_000, help="of all images together")]


def run(
    images: Sequence[str],
    console: Console,
    *,
    export: Path | None,
    bring: Path | None,
    source: str | None,
    into: str,
    registry: str,
    credentials: Path | None,
    plain_http: bool,
    roots: Path | None,
    namespace: str,
    limit_gb: int,
    key: Path | None,
) -> int:
    """Lists, exports or imports; CatalogueError names the first image that cannot be had, and what to do."""
    if export and bring:
        raise CatalogueError("give --export or --import, not both")
    try:
        trusted = key_of(key) if key else None
        if export:
            layout = ImageLayout(export, limit=limit_gb * GB)
            layout.create()
            if source:
                _each(images, console, lambda name: save(source, name, layout, namespace=namespace).digest)
            else:
                with closing(Registry(registry, user=_user(credentials), plain_http=plain_http)) as from_:
                    _each(images, console, lambda name: _pulled(from_, name, layout))
            if trusted:
                _each_signed(images, layout, trusted)
        elif bring:
            layout = ImageLayout(bring, limit=limit_gb * GB)
            if missing := [name for name in images if name not in layout.names()]:
                raise ImageError(f"{bring} lacks {', '.join(missing)}: export again where there is internet")
            if trusted:
                _each_signed(images, layout, trusted)
            if into == Target.registry:
                if not registry:
                    raise ImageError("which registry? Give --registry URL")
                with closing(Registry(registry, user=_user(credentials), plain_http=plain_http)) as to:
                    _each(images, console, lambda name: to.push(name, layout))
                    for name in images:
                        to.push_signatures(name, layout)
            elif into == Target.folder:
                if roots is None:
                    raise ImageError("where to? Give --roots FOLDER")
                entries = [unpack(name, layout, roots, limit=limit_gb * GB) for name in images]
                console.print("In the TES's configuration:", soft_wrap=True)
                console.print(Text(yaml.safe_dump({"images": entries}, sort_keys=False)), soft_wrap=True)
            else:
                into_containerd(images, layout, namespace=namespace)
            console.print("These images are here now. In the node's policy, for those who ask before a run:")
            console.print(Text(yaml.safe_dump({"present_images": list(images)})), soft_wrap=True)
        else:
            _each(images, console, lambda name: "")
    except (ImageError, SettingsError, OSError) as error:
        raise CatalogueError(str(error)) from None
    return 0


def _pulled(registry: Registry, name: str, layout: ImageLayout) -> str:
    top = registry.pull(name, layout)
    return f"{top.digest}  with its signatures" if registry.pull_signatures(name, top, layout) else top.digest


def _each_signed(images: Sequence[str], layout: ImageLayout, key: PublicKeyTypes) -> None:
    known = layout.names()
    for name in images:
        need_signed(name, known[name], layout, key)


def _each(images: Sequence[str], console: Console, do: Callable[[str], str]) -> None:
    for name in images:
        try:
            console.print(Text(f"{name}  {do(name)}".rstrip()), soft_wrap=True)
        except ImageError as error:
            raise ImageError(f"{name}: {error}") from None


def _user(file: Path | None) -> tuple[str, str] | None:
    if file is None:
        return None
    name, colon, password = read_secret_text(file, "--credentials").partition(":")
    if not colon:
        raise ImageError("--credentials: the file holds USER:PASSWORD in one line")
    return name, password
