"""Signatures by cosign travel with the image, and `--key` lets only what that key signed through."""

from __future__ import annotations

import base64
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from rich.console import Console

from gdi.cli.images import command
from gdi.cli.images.layout import MANIFESTS, BlobDescriptor, ImageError, ImageLayout
from gdi.cli.images.registry import Registry
from gdi.cli.images.signatures import PAYLOAD, SIGNATURE, TYPE, key_of, need_signed, tag_of
from gdi.contracts.workflow import CatalogueError
from tests.support.image_registry import Store, layer, layout, registry

IMAGE = "gdi-task:1"
EC, OTHER = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())


def public(file: Path, key: Any) -> Path:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    file.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, form))
    return file


def sign(
    store: Store, digest: str, key: Any = EC, *, about: str = "", kind: str = TYPE, text: str | None = None
) -> None:
    """As `cosign sign --key` leaves it in the registry."""
    image = {"docker-manifest-digest": about or digest}
    critical = {"identity": {"docker-reference": "registry/gdi-task"}, "image": image, "type": kind}
    payload = json.dumps({"critical": critical, "optional": None}).encode()
    if isinstance(key, rsa.RSAPrivateKey):
        signature = key.sign(payload, padding.PKCS1v15(), hashes.SHA256())
    else:
        signature = key.sign(payload, ec.ECDSA(hashes.SHA256()))
    shown = base64.b64encode(signature).decode() if text is None else text
    part = store.blob(payload, PAYLOAD, annotations={SIGNATURE: shown})
    config = store.blob(b"{}", "application/vnd.oci.image.config.v1+json")
    store.manifest(f"{digest.replace(':', '-')}.sig", {"config": config, "layers": [part]}, MANIFESTS[0])


@pytest.fixture
def store() -> Store:
    return Store()


def exported(store: Store, folder: Path) -> tuple[ImageLayout, BlobDescriptor]:
    made = layout(folder)
    top = registry(store).pull(IMAGE, made)
    registry(store).pull_signatures(IMAGE, top, made)
    return made, top


def test_what_its_key_signed_passes_also_from_a_second_registry(tmp_path: Path, store: Store) -> None:
    digest = store.image(layer({"bin/x": b"x"}))["digest"]
    sign(store, digest)
    made, top = exported(store, tmp_path / "out")
    key = key_of(public(tmp_path / "cosign.pub", EC))
    need_signed(IMAGE, top, made, key)
    there = Store()
    registry(there).push(IMAGE, made)
    registry(there).push_signatures(IMAGE, made)
    assert there.manifests[tag_of(top)] == store.manifests[tag_of(top)], "where cosign looks for it"
    again, top = exported(there, tmp_path / "again")
    need_signed(IMAGE, top, again, key)


def test_an_rsa_key_serves_and_another_kind_or_no_key_is_refused(tmp_path: Path, store: Store) -> None:
    key = rsa.generate_private_key(65537, 2048)
    sign(store, store.image(layer({"a": b"a"}))["digest"], key)
    made, top = exported(store, tmp_path / "out")
    need_signed(IMAGE, top, made, key_of(public(tmp_path / "rsa.pub", key)))
    (tmp_path / "none").write_text("no key")
    for file in (tmp_path / "none", tmp_path / "gone"):
        with pytest.raises(ImageError, match=r"cosign\.pub"):
            key_of(file)


@pytest.mark.parametrize(
    "fault",
    [
        {"key": OTHER},
        {"about": "sha256:" + "0" * 64},
        {"kind": "another thing"},
        {"text": ""},
        {"text": "?"},
        {"text": "AAAA"},
    ],
    ids=["another key", "another image", "another kind", "no signature", "no base64", "no such form"],
)
def test_what_is_not_signed_by_the_key_is_refused(tmp_path: Path, store: Store, fault: dict[str, Any]) -> None:
    sign(store, store.image(layer({"a": b"a"}))["digest"], **fault)
    made, top = exported(store, tmp_path / "out")
    with pytest.raises(ImageError, match="not signed by that key"):
        need_signed(IMAGE, top, made, key_of(public(tmp_path / "cosign.pub", EC)))


def test_an_image_without_signatures_travels_and_is_refused_where_a_key_is_asked_for(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = store.image(layer({"a": b"a"}))["digest"]
    monkeypatch.setattr("gdi.cli.images.command.Registry", partial(Registry, transport=store.transport))
    run = partial(
        command.run,
        [IMAGE],
        Console(quiet=True),
        source=None,
        into="folder",
        registry="http://127.0.0.1:5000",
        credentials=None,
        plain_http=False,
        roots=tmp_path / "roots",
        namespace="k8s.io",
        limit_gb=1,
    )
    key = public(tmp_path / "cosign.pub", EC)
    assert run(export=tmp_path / "out", bring=None, key=None) == 0
    for out, bring in ((tmp_path / "out", None), (None, tmp_path / "out")):
        with pytest.raises(CatalogueError, match="has no signature"):
            run(export=out, bring=bring, key=key)
    assert not (tmp_path / "roots").exists(), "nothing of it was unpacked"
    sign(store, digest)
    assert run(export=tmp_path / "out", bring=None, key=key) == 0
    assert run(export=None, bring=tmp_path / "out", key=key) == 0
