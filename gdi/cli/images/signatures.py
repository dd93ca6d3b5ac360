"""Signatures by cosign (its `specs/SIGNATURE_SPEC.md`, with a key): an image of its own beside the image, under the tag
`sha256-DIGEST.sig`. A layer is what was signed, and names the image's digest; the signature is the layer's annotation.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from gdi.cli.images.layout import BlobDescriptor, ImageError, ImageLayout, parts_of

SIGNATURE = "dev.cosignproject.cosign/signature"
PAYLOAD = "application/vnd.dev.cosign.simplesigning.v1+json"
TYPE = "cosign container image signature"
MAX_PAYLOAD = 64 * 1024  # bytes; what cosign signs is about 250


def tag_of(image: BlobDescriptor) -> str:
    """The tag under which an image's signatures lie in its repository."""
    return f"{image.digest.replace(':', '-')}.sig"


def key_of(file: Path) -> PublicKeyTypes:
    """A public key as `cosign generate-key-pair` writes it (`cosign.pub`), or an RSA key. ImageError."""
    try:
        key = serialization.load_pem_public_key(file.read_bytes())
    except (OSError, ValueError, TypeError):
        raise ImageError(f"{file} is no public key in PEM: give cosign.pub") from None
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        raise ImageError(f"{file} is a key of a kind that is not known here: ECDSA or RSA")
    return key


def need_signed(name: str, image: BlobDescriptor, layout: ImageLayout, key: PublicKeyTypes) -> None:
    """ImageError where no signature of the layout is of this very image and by this key."""
    bundle = layout.names().get(tag_of(image))
    if bundle is None:
        raise ImageError(
            f"{name} has no signature by cosign ({tag_of(image)}): export it again from a registry that has one"
        )
    for one in parts_of(bundle, layout.read(bundle)):
        if one.media_type == PAYLOAD and one.size <= MAX_PAYLOAD and _good(layout.read(one), one, image, key):
            return
    raise ImageError(f"{name} is not signed by that key, or what is signed is another image than {image.digest}")


def _good(payload: bytes, layer: BlobDescriptor, image: BlobDescriptor, key: PublicKeyTypes) -> bool:
    annotations = (layer.model_extra or {}).get("annotations")
    text = annotations.get(SIGNATURE) if isinstance(annotations, dict) else None
    try:
        signature = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, payload, ec.ECDSA(hashes.SHA256()))
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, payload, padding.PKCS1v15(), hashes.SHA256())
        else:
            return False
        critical = json.loads(payload)["critical"]
        return bool(critical["type"] == TYPE and critical["image"]["docker-manifest-digest"] == image.digest)
    except (InvalidSignature, ValueError, KeyError, TypeError, RecursionError):
        return False
