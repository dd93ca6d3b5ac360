"""Crypt4GH as the archive needs it: key files, a header re-encrypted to another key, any range of the plaintext without
the rest. GA4GH Crypt4GH 1.0.
"""

from __future__ import annotations

import base64
import binascii
import io
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from crypt4gh import CIPHER_SEGMENT_SIZE, SEGMENT_SIZE, header, lib, sodium
from crypt4gh.keys.c4gh import MAGIC_WORD, encode_string, parse_private_key

from gdi.funnel import crypt4gh
from gdi.kit.secret_files import write_private

# At DEBUG the library writes session keys and private keys into the log: it is never let down to that level.
logging.getLogger("crypt4gh").setLevel(logging.CRITICAL)

CIPHER_DIFF: int = CIPHER_SEGMENT_SIZE - SEGMENT_SIZE
MAX_HEADER = 1024 * 1024
MAX_PACKETS = 1000
PUBLIC = ("-----BEGIN CRYPT4GH PUBLIC KEY-----", "-----END CRYPT4GH PUBLIC KEY-----")
PRIVATE = ("-----BEGIN CRYPT4GH PRIVATE KEY-----", "-----END CRYPT4GH PRIVATE KEY-----")


class NotCrypt4GH(Exception):
    """A file that is not Crypt4GH, is damaged, or is for another key; or a key that is none. Says which, never a
    key.
    """


def _pem(frame: tuple[str, str], content: bytes) -> str:
    return f"{frame[0]}\n{base64.b64encode(content).decode()}\n{frame[1]}\n"


def _unpem(frame: tuple[str, str], text: str) -> bytes:
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    if len(lines) < 3 or lines[0] != frame[0] or lines[-1] != frame[1]:
        raise NotCrypt4GH(f"a Crypt4GH key in PEM starts with {frame[0]}")
    try:
        return base64.b64decode("".join(lines[1:-1]), validate=True)
    except binascii.Error:
        raise NotCrypt4GH("the content of the key's PEM is not base64") from None


def public_key(pem: str) -> bytes:
    """The 32 bytes of a public key in PEM. NotCrypt4GH where it is none."""
    key = _unpem(PUBLIC, pem)
    if len(key) != 32:
        raise NotCrypt4GH("a Crypt4GH public key has 32 bytes")
    return key


@dataclass(frozen=True)
class KeyPair:
    private: bytes = field(repr=False)
    public: bytes

    @classmethod
    def load_or_make(cls, path: Path) -> KeyPair:
        """The key pair whose private half is in `path` (PEM, no passphrase); made there, with `….pub` beside it, when
        absent.
        """
        if not path.exists():
            secret = os.urandom(32)
            write_private(
                path, _pem(PRIVATE, MAGIC_WORD + encode_string(None) + encode_string(None) + encode_string(secret))
            )
            path.with_suffix(".pub").write_text(_pem(PUBLIC, bytes(sodium.derive_pk(secret))))
        return cls.load(path)

    @classmethod
    def load(cls, path: Path) -> KeyPair:
        content = _unpem(PRIVATE, path.read_text())
        if not content.startswith(MAGIC_WORD):
            raise NotCrypt4GH(f"{path} holds no Crypt4GH private key")
        secret = bytes(parse_private_key(io.BytesIO(content[len(MAGIC_WORD) :]), None))
        return cls(secret, bytes(sodium.derive_pk(secret)))

    def pem(self) -> str:
        return _pem(PUBLIC, self.public)


@dataclass(frozen=True)
class Crypt4ghFile:
    """A Crypt4GH file in the archive: where its body starts, its sizes in bytes, and its header's packets, still
    encrypted to the archive.
    """

    path: Path
    packets: tuple[bytes, ...]
    body_start: int
    body_size: int

    @classmethod
    def open(cls, path: Path) -> Crypt4ghFile:
        """NotCrypt4GH where the file is none; OSError where it cannot be read."""
        with path.open("rb") as file:
            start = file.read(MAX_HEADER)
            size = file.seek(0, io.SEEK_END)
        # Bounded before the library reads it: the number of packets is the file's own claim.
        if len(start) < 16 or start[:8] != header.MAGIC_NUMBER or int.from_bytes(start[12:16], "little") > MAX_PACKETS:
            raise NotCrypt4GH("the stored file does not start like Crypt4GH")
        try:
            packets, body_start = crypt4gh.packets(start)
        except crypt4gh.DamagedError:
            raise NotCrypt4GH("the stored file's Crypt4GH header is damaged") from None
        return cls(path, tuple(packets), body_start, size - body_start)

    @property
    def plain_size(self) -> int:
        segments: int = -(-self.body_size // CIPHER_SEGMENT_SIZE)
        return max(0, self.body_size - segments * CIPHER_DIFF)

    def header_for(self, archive: KeyPair, recipient: bytes) -> bytes:
        """The header re-encrypted to `recipient` (32 bytes), for it alone."""
        try:
            packets = header.reencrypt(
                list(self.packets), [(0, archive.private, None)], [(0, archive.private, recipient)], trim=True
            )
            return bytes(header.serialize(packets))
        except ValueError:
            raise NotCrypt4GH("the stored file is not encrypted to this archive's key") from None

    def body(self, start: int, length: int, *, chunk: int = 256 * 1024) -> Iterator[bytes]:
        """Encrypted bytes, from `start` within the body."""
        with self.path.open("rb") as file:
            file.seek(self.body_start + start)
            while length > 0:
                data = file.read(min(chunk, length))
                if not data:
                    raise NotCrypt4GH("the stored file got shorter while it was read")
                length -= len(data)
                yield data

    def plaintext(self, archive: KeyPair, start: int, length: int) -> Iterator[bytes]:
        """`length` bytes of the plaintext from `start`, decrypting the segments they lie in only. NotCrypt4GH where one
        is damaged.
        """
        decrypted, _ = header.decrypt(list(self.packets), [(0, archive.private, None)])
        try:
            data, edits = header.partition_packets(decrypted)
            keys = [header.parse_enc_packet(p) for p in data]
        except ValueError:
            keys, edits = [], None
        if not keys or edits is not None:
            raise NotCrypt4GH("the stored file is not encrypted to this archive's key, or has an edit list")
        segment, skip = divmod(start, SEGMENT_SIZE)
        with self.path.open("rb") as file:
            file.seek(self.body_start + segment * CIPHER_SEGMENT_SIZE)
            while length > 0:
                cipher = file.read(CIPHER_SEGMENT_SIZE)
                plain = bytearray(SEGMENT_SIZE)
                try:
                    size = lib.decrypt_block(plain, cipher, keys) if len(cipher) > CIPHER_DIFF else 0
                except ValueError:
                    size = 0
                if size <= skip:
                    raise NotCrypt4GH(f"segment {segment} of the stored file is damaged or missing")
                piece = bytes(plain[skip : min(size, skip + length)])
                length -= len(piece)
                segment, skip = segment + 1, 0
                yield piece


def encrypt(source: BinaryIO, target: BinaryIO, recipient: KeyPair) -> None:
    """Writes `source` to `target` as Crypt4GH, encrypted to `recipient`, a segment at a time."""
    sender = os.urandom(32)
    lib.encrypt([(0, sender, recipient.public)], source, target)
