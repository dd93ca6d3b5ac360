"""Crypt4GH files of the kinds that people have and that attackers make: one reader for the TES stand-in and for what
stands before Funnel. Files are made by the package `crypt4gh`, which is another implementation.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest
from crypt4gh import header as package
from crypt4gh import lib
from crypt4gh.keys import c4gh

from gdi.funnel.crypt4gh import MAGIC, SEALED, SEGMENT, Body, DamagedError, Key, Plainest, packets
from gdi.local_federation.sda.crypt import Crypt4ghFile, KeyPair
from gdi.local_federation.tes.archive import _decrypt
from gdi.local_federation.tes.transfer import TransferError

PLAIN = os.urandom(3 * SEGMENT + 1000)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    folder = tmp_path_factory.mktemp("keys")
    c4gh.generate(str(folder / "sec"), str(folder / "pub"), None, None)
    return Key.load(folder / "sec")


def packet(content: bytes, to: bytes) -> bytes:
    return bytes(next(iter(package.encrypt(content, [(0, os.urandom(32), to)]))))


def file_of(key: Key, plain: bytes = PLAIN, *, extra: tuple[bytes, ...] = (), edits: tuple[int, ...] = ()) -> bytes:
    """Header with the packets `extra` before the data key's, an edit list where there is one, and segments."""
    session = os.urandom(32)
    found = [*extra, packet(package.make_packet_data_enc(0, session), key.public)]
    if edits:
        found.append(packet(package.make_packet_data_edit_list(edits), key.public))
    body = bytearray()
    for i in range(0, len(plain), SEGMENT):
        body += sealed(plain[i : i + SEGMENT], session)
    head = MAGIC + (1).to_bytes(4, "little") + len(found).to_bytes(4, "little")
    return head + b"".join((len(p) + 4).to_bytes(4, "little") + p for p in found) + body


def sealed(plain: bytes, session: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    nonce = os.urandom(12)
    return nonce + ChaCha20Poly1305(session).encrypt(nonce, plain, None)


def read(data: bytes, key: Key) -> bytes:
    """Through the reader and the writer, as what stands before Funnel does, and back by the package."""
    found, start = packets(data)
    body, anew = Body(found, key), Plainest(key)
    out = bytearray(anew.header)
    for i in range(start, len(data), SEALED):
        out += b"".join(anew.seal(body.open(data[i : i + SEALED])))
    body.end()
    out += b"".join(anew.end())
    plain = io.BytesIO()
    lib.decrypt([(0, key.secret.private_bytes_raw(), None)], io.BytesIO(bytes(out)), plain)
    return plain.getvalue()


class Sink:
    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: bytes) -> int:
        self.data += data
        return len(data)


def staged(data: bytes, key: Key) -> bytes:
    """Through the TES stand-in."""
    sink: Any = Sink()
    _decrypt("sda://D/x.c4gh", key, io.BufferedReader(io.BytesIO(data)), sink)
    return bytes(sink.data)


def both(data: bytes, key: Key, wanted: bytes) -> None:
    assert read(data, key) == wanted
    assert staged(data, key) == wanted


def refused(data: bytes, key: Key, why: str) -> None:
    with pytest.raises(DamagedError, match=why):
        read(data, key)
    with pytest.raises(TransferError, match=f"sda://D/x.c4gh: .*{why}"):
        staged(data, key)


@pytest.mark.parametrize("size", [0, 1, SEGMENT - 1, SEGMENT, SEGMENT + 1, len(PLAIN)])
def test_a_file_of_any_length_is_read_whole(size: int, key: Key) -> None:
    both(file_of(key, PLAIN[:size]), key, PLAIN[:size])


@pytest.mark.parametrize("segment", [0, 1, 3])
def test_a_wrong_code_in_any_segment_fails_the_file(segment: int, key: Key) -> None:
    data = bytearray(file_of(key))
    data[packets(bytes(data))[1] + segment * SEALED + 20] ^= 1
    refused(bytes(data), key, f"segment {segment + 1} does not open")


@pytest.mark.parametrize("size", [SEGMENT, SEGMENT + 10])
@pytest.mark.parametrize("more", [1, 5, 27, 28, 100])
def test_bytes_after_the_last_segment_fail_the_file(size: int, more: int, key: Key) -> None:
    refused(file_of(key, PLAIN[:size]) + bytes(more), key, "does not open")


@pytest.mark.parametrize("missing", [1, 1000 + 28 - 1, SEALED])
def test_a_file_that_was_cut_inside_a_segment_fails(missing: int, key: Key) -> None:
    refused(file_of(key)[:-missing], key, "does not open")


@pytest.mark.parametrize(
    ("edits", "kept"),
    [
        ((10, 20), PLAIN[10:30]),
        ((0, 20), PLAIN[:20]),
        ((10,), PLAIN[10:]),
        ((0,), PLAIN),
        ((10, 20, 5), PLAIN[10:30] + PLAIN[35:]),
        ((10, 20, 5, 7), PLAIN[10:30] + PLAIN[35:42]),
        (
            (SEGMENT - 3, 10, 2 * SEGMENT, 4),
            PLAIN[SEGMENT - 3 : SEGMENT + 7] + PLAIN[3 * SEGMENT + 7 : 3 * SEGMENT + 11],
        ),
        ((SEGMENT, SEGMENT), PLAIN[SEGMENT : 2 * SEGMENT]),
    ],
    ids=range(8),
)
def test_an_edit_list_is_applied(edits: tuple[int, ...], kept: bytes, key: Key) -> None:
    both(file_of(key, edits=edits), key, kept)


def test_an_edit_list_that_cannot_be_is_refused(key: Key) -> None:
    refused(file_of(key, edits=(10, len(PLAIN))), key, "before its edit list")
    refused(file_of(key, edits=(len(PLAIN) + 1,)), key, "before its edit list")
    two = packet(package.make_packet_data_edit_list([1, 2]), key.public)
    refused(file_of(key, extra=(two, two)), key, "edit list")
    refused(file_of(key, extra=(packet(package.make_packet_data_edit_list([]), key.public),)), key, "edit list")
    lie = (1).to_bytes(4, "little") + (9).to_bytes(4, "little") + bytes(8)
    refused(file_of(key, extra=(packet(lie, key.public),)), key, "edit list")


def test_packets_of_others_of_unknown_types_and_too_small_ones_are_skipped(key: Key) -> None:
    stranger = package.make_packet_data_enc(0, os.urandom(32))
    odd = (
        packet(stranger, os.urandom(32)),  # for another recipient
        packet((7).to_bytes(4, "little") + b"something new", key.public),
        packet((0).to_bytes(4, "little") + (9).to_bytes(4, "little") + bytes(32), key.public),  # a method of tomorrow
        packet(b"", key.public),
        packet(b"\0", key.public),
        (3).to_bytes(4, "little") + os.urandom(60),  # another method of the header
        b"",
        b"\0",
        bytes(63),
        bytes(104),
    )
    data = file_of(key, extra=odd)
    both(data, key, PLAIN)
    both(file_of(key, extra=odd * 100), key, PLAIN)


def test_two_data_keys_and_many_recipients_are_read(key: Key) -> None:
    one, two = os.urandom(32), os.urandom(32)
    others = [packet(package.make_packet_data_enc(0, one), os.urandom(32)) for _ in range(50)]
    found = [*others, *(packet(package.make_packet_data_enc(0, k), key.public) for k in (one, two))]
    head = MAGIC + (1).to_bytes(4, "little") + len(found).to_bytes(4, "little")
    head += b"".join((len(p) + 4).to_bytes(4, "little") + p for p in found)
    parts = [PLAIN[:SEGMENT], PLAIN[SEGMENT : 2 * SEGMENT], PLAIN[2 * SEGMENT : 2 * SEGMENT + 5]]
    both(head + b"".join(sealed(p, k) for p, k in zip(parts, (one, two, one), strict=True)), key, b"".join(parts))


@pytest.mark.parametrize("size", [0, SEGMENT, 2 * SEGMENT])
def test_an_empty_last_segment_is_accepted(size: int, key: Key) -> None:
    session = os.urandom(32)
    extra = (packet(package.make_packet_data_enc(0, session), key.public),)
    both(file_of(key, PLAIN[:size], extra=extra) + sealed(b"", session), key, PLAIN[:size])


def test_what_is_no_file_for_this_key_says_so(key: Key, tmp_path: Path) -> None:
    whole = file_of(key)
    c4gh.generate(str(tmp_path / "sec"), str(tmp_path / "pub"), None, None)
    refused(whole, Key.load(tmp_path / "sec"), "this node's key")
    refused(whole[:8] + (2).to_bytes(4, "little") + whole[12:], key, "version 1")
    refused(whole[:16] + (3).to_bytes(4, "little") + whole[20:], key, "packet 1")
    refused(whole[:12] + (2**32 - 1).to_bytes(4, "little") + whole[16:], key, "header")
    for text in ("no key", "-----BEGIN CRYPT4GH PRIVATE KEY-----\nAAAA\n-----END CRYPT4GH PRIVATE KEY-----\n"):
        (tmp_path / "bad").write_text(text)
        with pytest.raises(ValueError, match="no Crypt4GH private key"):
            Key.load(tmp_path / "bad")


def test_the_archive_stand_in_passes_such_files_on(key: Key, tmp_path: Path) -> None:
    archive = KeyPair(key.secret.private_bytes_raw(), key.public)
    c4gh.generate(str(tmp_path / "sec"), str(tmp_path / "pub"), None, None)
    tes = Key.load(tmp_path / "sec")
    odd = (b"", b"\0", packet((7).to_bytes(4, "little") + b"new", key.public))
    for name, data, wanted in (
        ("odd", file_of(key, extra=odd), PLAIN),
        ("edited", file_of(key, edits=(10, 20)), PLAIN[10:30]),
    ):
        (tmp_path / name).write_bytes(data)
        stored = Crypt4ghFile.open(tmp_path / name)
        sent = stored.header_for(archive, tes.public) + b"".join(stored.body(0, stored.body_size))
        both(sent, tes, wanted)
