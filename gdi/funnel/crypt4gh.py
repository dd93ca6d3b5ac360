"""Reads Crypt4GH to the letter of GA4GH's specification (1.0), and writes it anew in its plainest form.

Every segment must open, the file must end with a segment, and the edit list is applied: what it leaves out never
reaches the reader. Header packets for other keys, of unknown types or too small for any are skipped (2.2, 3.1).
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

MAGIC = b"crypt4gh"
SEGMENT, NONCE, MAC = 65_536, 12, 16
SEALED = NONCE + SEGMENT + MAC
MAX_HEADER = 1024 * 1024
DATA_KEY, EDIT_LIST = 0, 1  # types of header packets
X25519_CHACHA20 = CHACHA20 = 0  # methods of header packets and of segments
_PEM = ("-----BEGIN CRYPT4GH PRIVATE KEY-----", "-----END CRYPT4GH PRIVATE KEY-----")


class DamagedError(ValueError):
    """It is no whole Crypt4GH file for this key. The text says what is wrong, never a key."""


@dataclass(frozen=True)
class Key:
    """A recipient's private key."""

    secret: X25519PrivateKey

    @classmethod
    def load(cls, path: Path) -> Key:
        """From a file in Crypt4GH's PEM without a passphrase. OSError; ValueError where it is none."""
        lines = [line.strip() for line in path.read_text().strip().splitlines()]
        if len(lines) < 3 or (lines[0], lines[-1]) != _PEM:
            raise ValueError(f"{path}: no Crypt4GH private key in PEM")
        try:
            data = base64.b64decode("".join(lines[1:-1]), validate=True)
        except binascii.Error:
            raise ValueError(f"{path}: the key's PEM is no base64") from None
        return cls(_private(path, data))

    @property
    def public(self) -> bytes:
        return self.secret.public_key().public_bytes_raw()

    def shared(self, peer: bytes, *, reader: bytes, writer: bytes) -> bytes:
        """The key of a packet between two people (libsodium's crypto_kx; the reader is its client)."""
        point = self.secret.exchange(X25519PublicKey.from_public_bytes(peer))
        return blake2b(point + reader + writer, digest_size=64).digest()[:32]


def _private(path: Path, data: bytes) -> X25519PrivateKey:
    if not data.startswith(b"c4gh-v1"):
        raise ValueError(f"{path}: no Crypt4GH private key")
    parts, at = [], 7
    for _ in range(3):
        size = int.from_bytes(data[at : at + 2], "big")
        parts.append(data[at + 2 : at + 2 + size])
        at += 2 + size
    if parts[:2] != [b"none", b"none"] or len(parts[2]) != 32:
        raise ValueError(f"{path}: the key has a passphrase; store one without")
    return X25519PrivateKey.from_private_bytes(parts[2])


def packets(header: bytes) -> tuple[list[bytes], int]:
    """The packets of the header that `header` begins with (each without its length), and where the segments begin.
    DamagedError where it is none, or longer than the bytes given.
    """
    if header[:8] != MAGIC or int.from_bytes(header[8:12], "little") != 1 or len(header) < 16:
        raise DamagedError("it does not begin like Crypt4GH, version 1")
    found, at = [], 16
    for number in range(int.from_bytes(header[12:16], "little")):
        size = int.from_bytes(header[at : at + 4], "little")
        if size < 4 or at + size > len(header):
            raise DamagedError(f"packet {number + 1} of the header is damaged, or the header too long")
        found.append(header[at + 4 : at + size])
        at += size
    return found, at


class Body:
    """The segments of a file, one `open` after the other; `end` when there are no more."""

    def __init__(self, found: Sequence[bytes], key: Key) -> None:
        """`found`: the header's packets. DamagedError where none holds a key of ours, or the edit list is wrong."""
        self._keys: list[ChaCha20Poly1305] = []
        self._edits: list[int] | None = None
        self._number = 0
        for packet in found:
            self._packet(_open_packet(packet, key))
        if not self._keys:
            raise DamagedError("no packet of the header opens with this node's key")

    def _packet(self, content: bytes) -> None:
        kind = int.from_bytes(content[:4], "little") if len(content) >= 8 else -1
        if kind == DATA_KEY and int.from_bytes(content[4:8], "little") == CHACHA20 and len(content) >= 40:
            self._keys.append(ChaCha20Poly1305(content[8:40]))
        elif kind == EDIT_LIST:
            count = int.from_bytes(content[4:8], "little")
            if self._edits is not None or not count or len(content) < 8 + 8 * count:
                raise DamagedError("the edit list is damaged, empty, or there are two")
            edits = [int.from_bytes(content[8 + 8 * i : 16 + 8 * i], "little") for i in range(count)]
            # Left out and kept in turns; after an odd number all that follows is kept, after an even one nothing.
            self._edits = edits

    def open(self, sealed: bytes) -> bytes:
        """What of a segment (12 bytes nonce, data, 16 bytes code) is to be read. DamagedError."""
        self._number += 1
        for index, key in enumerate(self._keys):
            try:
                plain = key.decrypt(sealed[:NONCE], sealed[NONCE:], None)
            except (InvalidTag, ValueError):
                continue
            if index:  # the next segment most likely has the same key
                self._keys.insert(0, self._keys.pop(index))
            return plain if self._edits is None else self._edited(plain)
        raise DamagedError(f"segment {self._number} does not open: it is damaged, or bytes follow the last one")

    def _edited(self, plain: bytes) -> bytes:
        assert self._edits is not None
        kept = []
        while plain and self._edits:
            left_out = min(self._edits[0], len(plain))
            plain, self._edits[0] = plain[left_out:], self._edits[0] - left_out
            if self._edits[0]:
                break
            if len(self._edits) == 1:
                kept.append(plain)
                return b"".join(kept)
            keep = min(self._edits[1], len(plain))
            kept.append(plain[:keep])
            plain, self._edits[1] = plain[keep:], self._edits[1] - keep
            if not self._edits[1]:
                del self._edits[:2]
        return b"".join(kept)

    def end(self) -> None:
        """DamagedError where the edit list names more data than there were."""
        if self._edits and any(self._edits):
            raise DamagedError("the file ends before its edit list does")


class Plainest:
    """A new file for `key`: one packet, one data key, full segments."""

    def __init__(self, key: Key) -> None:
        data_key = os.urandom(32)
        self._cipher = ChaCha20Poly1305(data_key)
        self._buffer = bytearray()
        self.header = header_of([_sealed_packet(bytes(8) + data_key, key.public)])

    def seal(self, plain: bytes) -> Iterator[bytes]:
        """The segments that are full by now."""
        self._buffer += plain
        while len(self._buffer) >= SEGMENT:
            yield self._sealed(SEGMENT)

    def end(self) -> Iterator[bytes]:
        """The last segment, where data are left."""
        if self._buffer:
            yield self._sealed(len(self._buffer))

    def _sealed(self, count: int) -> bytes:
        nonce = os.urandom(NONCE)
        sealed = nonce + self._cipher.encrypt(nonce, bytes(self._buffer[:count]), None)
        del self._buffer[:count]
        return sealed


def header_of(found: Sequence[bytes]) -> bytes:
    """A header of these packets, each without its length."""
    lengths = ((len(packet) + 4).to_bytes(4, "little") + packet for packet in found)
    return MAGIC + (1).to_bytes(4, "little") + len(found).to_bytes(4, "little") + b"".join(lengths)


def edit_list(lengths: Sequence[int], reader: bytes) -> bytes:
    """A packet for the public key `reader`: bytes left out and kept, in turns. It needs no data key."""
    numbers = b"".join(length.to_bytes(8, "little") for length in lengths)
    return _sealed_packet(EDIT_LIST.to_bytes(4, "little") + len(lengths).to_bytes(4, "little") + numbers, reader)


def _sealed_packet(content: bytes, reader: bytes) -> bytes:
    writer, nonce = Key(X25519PrivateKey.generate()), os.urandom(NONCE)
    shared = writer.shared(reader, reader=reader, writer=writer.public)
    return bytes(4) + writer.public + nonce + ChaCha20Poly1305(shared).encrypt(nonce, content, None)


def _open_packet(packet: bytes, key: Key) -> bytes:
    """What a packet holds; empty where it is for another key, of another method, or too small."""
    if int.from_bytes(packet[:4], "little") != X25519_CHACHA20 or len(packet) < 4 + 32 + NONCE + MAC:
        return b""
    peer, nonce, rest = packet[4:36], packet[36:48], packet[48:]
    try:
        shared = key.shared(peer, reader=key.public, writer=peer)
        return ChaCha20Poly1305(shared).decrypt(nonce, rest, None)
    except (InvalidTag, ValueError):  # ValueError: a point that gives no secret
        return b""
