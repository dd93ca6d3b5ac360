"""The archive stand-in keeps SDA's promises: only visas open data, at each request anew, and what it sends is real
Crypt4GH. Real LS AAI and SDA processes.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from crypt4gh import lib

from gdi.local_federation.aai.running import BROKER, RunningAai, running_aai
from gdi.local_federation.sda import provision
from gdi.local_federation.sda.crypt import KeyPair
from gdi.local_federation.sda.running import RunningSda, running_sda
from tests.support.wire import held
from tests.support.wires import SDA

DS, URL_DS, OTHER = "EGAD-DEMO-A", "https://data.example.org/sets/7", "EGAD-DEMO-B"
PLAIN = os.urandom(4 * 65536 + 1234)
AUDIENCE = "http://sda.example"
TYPES = "urn:ietf:params:oauth:token-type:"


@pytest.fixture(scope="module")
def aai(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAai]:
    with running_aai(
        tmp_path_factory.mktemp("aai"), entitlements=[{"user": "alice", "dataset": d} for d in (DS, URL_DS)]
    ) as running:
        yield running


@pytest.fixture(scope="module")
def sda(aai: RunningAai, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSda]:
    folder = tmp_path_factory.mktemp("sda")
    source = folder / "plain.bin"
    source.write_bytes(PLAIN)
    for dataset in (DS, URL_DS, OTHER):
        provision.add(folder / "archive", dataset, "sub/cohort.bin.c4gh", source)
    (folder / "secret.c4gh").write_bytes(b"outside of every dataset")
    with running_sda(folder, issuer=aai.issuer, visa_issuers=[aai.visa_issuer]) as running:
        yield running


@pytest.fixture(scope="module")
def alice(aai: RunningAai) -> str:
    return aai.sign_in("alice").access_token


@pytest.fixture(scope="module")
def recipient(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return KeyPair.load_or_make(tmp_path_factory.mktemp("keys") / "client.sec")


def get(
    sda: RunningSda, path: str, token: str | None, *, key: KeyPair | None = None, method: str = "GET", **headers: str
) -> httpx.Response:
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    if key is not None:
        headers["Client-Public-Key"] = base64.b64encode(key.pem().encode()).decode()
    with httpx.Client(timeout=60, trust_env=False, event_hooks={"response": [held(SDA)]}) as http:
        return http.request(method, sda.url + path, headers=headers)


def opened(key: KeyPair, data: bytes) -> bytes:
    out = io.BytesIO()
    lib.decrypt([(0, key.private, None)], io.BytesIO(data), out)
    return out.getvalue()


@pytest.mark.parametrize(
    "path",
    [f"/s3/{DS}/sub/cohort.bin.c4gh", f"/s3-encrypted/{DS}/sub/cohort.bin.c4gh", f"/s3-encrypted/{DS}/sub/cohort.bin"],
)
def test_only_the_clients_key_opens_what_is_sent(
    sda: RunningSda, alice: str, recipient: KeyPair, tmp_path: Path, path: str
) -> None:
    answer = get(sda, path, alice, key=recipient)
    assert answer.status_code == 200 and answer.content.startswith(b"crypt4gh")
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert opened(recipient, answer.content) == PLAIN
    assert answer.headers["etag"] == f'"{hashlib.sha256(PLAIN).hexdigest()}"' and "last-modified" in answer.headers
    assert "set-cookie" not in answer.headers
    other = KeyPair.load_or_make(tmp_path / "other.sec")
    archive = KeyPair.load(sda.archive / ".keys" / "archive.sec")
    for wrong in (other, archive):
        with pytest.raises(ValueError, match="No supported encryption method"):
            opened(wrong, answer.content)


def test_decrypted_ranges_are_the_plaintexts(sda: RunningSda, alice: str) -> None:
    path = f"/s3/{DS}/sub/cohort.bin"
    assert get(sda, path, alice).content == PLAIN
    for start, end in ((0, 0), (65535, 65536), (70000, 200000), (len(PLAIN) - 5, len(PLAIN) - 1)):
        part = get(sda, path, alice, Range=f"bytes={start}-{end}")
        assert part.status_code == 206 and part.content == PLAIN[start : end + 1]
        assert part.headers["content-range"] == f"bytes {start}-{end}/{len(PLAIN)}"
    assert get(sda, path, alice, Range="bytes=-100").content == PLAIN[-100:]
    beyond = get(sda, path, alice, Range=f"bytes={len(PLAIN)}-")
    assert beyond.status_code == 416 and beyond.headers["content-range"] == f"bytes */{len(PLAIN)}"
    assert get(sda, path, alice, **{"Range": "bytes=0-9", "If-Range": '"another file"'}).status_code == 200
    head = get(sda, path, alice, method="HEAD")
    assert head.status_code == 200 and head.headers["content-length"] == str(len(PLAIN)) and not head.content


def test_a_download_cut_short_is_resumed_by_ranges(sda: RunningSda, alice: str, recipient: KeyPair) -> None:
    path = f"/s3/{DS}/sub/cohort.bin.c4gh"
    pieces = [get(sda, path, alice, key=recipient, Range=f"bytes={r}").content for r in ("0-60", "61-99999", "100000-")]
    assert opened(recipient, b"".join(pieces)) == PLAIN


def test_metadata_lists_what_the_caller_may_read_and_nothing_else(sda: RunningSda, alice: str) -> None:
    assert get(sda, "/metadata/datasets", alice).json() == [DS, URL_DS]
    for path in (f"/metadata/datasets/{DS}/files", "/metadata/datasets/data.example.org/sets/7/files?scheme=https"):
        (entry,) = get(sda, path, alice).json()
        assert entry["filePath"] == "sub/cohort.bin.c4gh" and entry["displayFileName"] == "cohort.bin.c4gh"
        assert (
            entry["decryptedFileSize"] == len(PLAIN)
            and entry["decryptedFileChecksum"] == hashlib.sha256(PLAIN).hexdigest()
        )
        whole = get(sda, f"/files/{entry['fileId']}", alice)
        assert whole.content == PLAIN
        assert (
            get(sda, f"/files/{entry['fileId']}?startCoordinate=10&endCoordinate=70000", alice).content
            == PLAIN[10:70000]
        )
    hidden = get(sda, f"/metadata/datasets/{OTHER}/files", alice)
    assert (hidden.status_code, hidden.text) == (404, "dataset not found")


def test_refusals_are_sdas_own_words(sda: RunningSda, aai: RunningAai, alice: str, recipient: KeyPair) -> None:
    path = f"/s3/{DS}/sub/cohort.bin"
    bob = aai.sign_in("bob").access_token
    id_token = aai.sign_in("alice").id_token
    without_passport = aai.sign_in("alice", scope="openid").access_token

    def said(answer: httpx.Response) -> tuple[int, str]:
        return answer.status_code, answer.text

    assert said(get(sda, path, None)) == (401, "access token must be provided")
    assert said(get(sda, path, None, Authorization="Basic eDp5"))[0] == 400
    assert said(get(sda, path, "nonsense")) == (401, "unauthorised")
    assert said(get(sda, path, alice[:-6] + "AAAAAA")) == (401, "unauthorised")
    assert said(get(sda, path, id_token)) == (401, "get visas failed")
    assert said(get(sda, path, bob)) == (403, "")
    assert said(get(sda, path, without_passport)) == (403, "")
    assert said(get(sda, f"/s3/{OTHER}/sub/cohort.bin", alice)) == (403, "")
    assert said(get(sda, f"/s3/{DS}/sub/none", alice)) == (404, "file not found")
    assert said(get(sda, "/files/EGAF00000000000", alice)) == (404, "file not found")
    assert said(get(sda, path + ".c4gh", alice)) == (400, "c4gh public key is missing from the header")
    assert get(sda, path + ".c4gh", alice, **{"Client-Public-Key": "bm8="}).status_code == 400
    by_header = httpx.get(sda.url + path, headers={"X-Amz-Security-Token": alice}, timeout=60)
    assert by_header.content == PLAIN


def test_no_path_leads_out_of_a_dataset(sda: RunningSda, alice: str) -> None:
    (sda.archive / DS / "link.c4gh").symlink_to(sda.archive.parent / "secret.c4gh")
    tries = [
        "../secret",
        "..%2f..%2fsecret",
        "%2e%2e/%2e%2e/secret",
        f"../{OTHER}/sub/cohort.bin",
        "../.keys/archive.sec",
        "link",
        "sub//cohort.bin",
        "sub/%00",
        ".",
    ]
    for path in tries:
        assert get(sda, f"/s3/{DS}/{path}", alice).status_code in (403, 404), path


@pytest.mark.parametrize("variant", ["expired", "bad-signature", "untrusted-jku", "untrusted-issuer", "not-a-jwt"])
def test_a_visa_that_is_not_good_opens_nothing(sda: RunningSda, aai: RunningAai, variant: str) -> None:
    fetched = aai.stats().get("rogue_jwk_fetches", 0)
    aai.grant("bob", DS, variant=variant)
    try:
        assert get(sda, f"/s3/{DS}/sub/cohort.bin", aai.sign_in("bob").access_token).status_code == 403
    finally:
        aai.withdraw("bob", DS)
    assert aai.stats().get("rogue_jwk_fetches", 0) == fetched, "an untrusted jku was fetched"


@pytest.mark.parametrize(
    "more", [{"type": "ResearcherStatus"}, {"conditions": [[{"type": "AffiliationAndRole", "value": "const:x"}]]}]
)
def test_only_unconditional_access_grants_count(sda: RunningSda, aai: RunningAai, more: dict[str, Any]) -> None:
    aai.grant("bob", DS, **more)
    try:
        assert get(sda, f"/s3/{DS}/sub/cohort.bin", aai.sign_in("bob").access_token).status_code == 403
    finally:
        aai.withdraw("bob", DS)


def test_access_withdrawn_ends_with_the_next_request(sda: RunningSda, aai: RunningAai) -> None:
    token, path = aai.sign_in("bob").access_token, f"/s3/{OTHER}/sub/cohort.bin"
    aai.grant("bob", OTHER)
    assert get(sda, path, token).content == PLAIN
    aai.withdraw("bob", OTHER)
    assert get(sda, path, token).status_code == 403


def test_a_token_narrowed_to_this_archive_serves_and_others_do_not(
    sda: RunningSda, aai: RunningAai, alice: str
) -> None:
    def narrowed(audience: str) -> str:
        form = {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token": alice,
            "subject_token_type": TYPES + "access_token",
        }
        answer = httpx.post(
            f"{aai.issuer}/token", data={**form, "audience": audience}, auth=(BROKER, aai.secret(BROKER))
        )
        return str(answer.json()["access_token"])

    path = f"/s3/{DS}/sub/cohort.bin"
    with running_sda(
        sda.archive.parent / "strict", issuer=aai.issuer, visa_issuers=[aai.visa_issuer], audience=AUDIENCE
    ) as strict:
        source = strict.archive.parent / "plain.bin"
        source.write_bytes(b"seven")
        provision.add(strict.archive, DS, "sub/cohort.bin", source)
        assert get(strict, path, narrowed(AUDIENCE)).content == b"seven"
        for wrong in (narrowed("http://another"), alice):
            refused = get(strict, path, wrong)
            assert (refused.status_code, refused.text) == (401, "unauthorised")


def test_an_old_archive_answers_200_with_a_bucket_list(sda: RunningSda, aai: RunningAai, alice: str) -> None:
    with running_sda(
        sda.archive.parent / "old", issuer=aai.issuer, visa_issuers=[aai.visa_issuer], flavour="before-3.1.51"
    ) as old:
        answer = get(old, f"/s3/{OTHER}/sub/cohort.bin", alice)
        assert answer.status_code == 200 and b"<ListBucketResult" in answer.content


def test_faults_come_as_ordered_and_go(sda: RunningSda, alice: str, recipient: KeyPair) -> None:
    name, path = f"{DS}/sub/cohort.bin.c4gh", f"/s3/{DS}/sub/cohort.bin.c4gh"
    try:
        sda.order(**{name: {"kind": "not-crypt4gh"}})
        assert not get(sda, path, alice, key=recipient).content.startswith(b"crypt4gh")
        sda.order(**{name: {"kind": "xml"}})
        assert b"<ListBucketResult" in get(sda, path, alice, key=recipient).content
        sda.order(**{name: {"kind": "unavailable"}})
        assert get(sda, path, alice, key=recipient).status_code == 503
        sda.order(**{name: {"kind": "truncated"}})
        short = get(sda, path, alice, key=recipient)
        assert short.status_code == 200 and len(short.content) < len(PLAIN)
        sda.order(**{name: {"kind": "cut"}})
        with pytest.raises(httpx.RemoteProtocolError):
            get(sda, path, alice, key=recipient)
    finally:
        sda.order()
    assert opened(recipient, get(sda, path, alice, key=recipient).content) == PLAIN


def test_a_stored_file_that_is_broken_is_an_error_and_not_data(
    sda: RunningSda, alice: str, recipient: KeyPair, tmp_path: Path
) -> None:
    garbage, foreign = sda.archive / DS / "garbage.c4gh", sda.archive / DS / "foreign.c4gh"
    garbage.write_bytes(b"#CHROM\tPOS\n" * 100)
    source = tmp_path / "x"
    source.write_bytes(b"x")
    provision.add(tmp_path / "elsewhere", DS, "foreign", source)
    foreign.write_bytes((tmp_path / "elsewhere" / DS / "foreign.c4gh").read_bytes())
    try:
        for name in ("garbage", "foreign"):
            for path in (name, name + ".c4gh"):
                assert get(sda, f"/s3/{DS}/{path}", alice, key=recipient).status_code == 500
        assert len(get(sda, f"/metadata/datasets/{DS}/files", alice).json()) == 3
    finally:
        garbage.unlink()
        foreign.unlink()


def test_while_the_provider_is_away_nothing_is_opened(sda: RunningSda, aai: RunningAai, alice: str) -> None:
    path = f"/s3/{DS}/sub/cohort.bin"
    assert get(sda, path, alice).status_code == 200
    aai.faults({"path": "/oidc/userinfo", "status": 503, "count": 2})
    try:
        for _ in range(2):
            refused = get(sda, path, alice)
            assert (refused.status_code, refused.text) == (401, "get visas failed")
    finally:
        aai.faults()
    assert get(sda, path, alice).status_code == 200


def test_a_file_is_never_held_in_memory(sda: RunningSda, alice: str, recipient: KeyPair, tmp_path: Path) -> None:
    def peak() -> int:
        line = next(x for x in Path(f"/proc/{sda.pid}/status").read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) // 1024  # MiB

    megabytes = 96
    big = tmp_path / "big"
    with big.open("wb") as out:
        out.truncate(megabytes * 1024 * 1024)
    provision.add(sda.archive, DS, "big.c4gh", big)
    before = peak()
    try:
        for name in ("big", "big.c4gh"):
            headers = {
                "Authorization": f"Bearer {alice}",
                "Client-Public-Key": base64.b64encode(recipient.pem().encode()).decode(),
            }
            with httpx.stream(
                "GET", f"{sda.url}/s3/{DS}/{name}", headers=headers, timeout=60, trust_env=False
            ) as answer:
                assert sum(len(piece) for piece in answer.iter_raw()) >= megabytes * 1024 * 1024
    finally:
        (sda.archive / DS / "big.c4gh").unlink()
    assert peak() - before < megabytes / 3


def test_neither_token_nor_key_is_ever_logged(sda: RunningSda, alice: str) -> None:
    log = sda.log.read_text()
    secret = KeyPair.load(sda.archive / ".keys" / "archive.sec").private
    assert alice not in log and secret.hex() not in log and base64.b64encode(secret).decode() not in log
    assert (sda.archive / ".keys" / "archive.sec").stat().st_mode & 0o777 == 0o600
