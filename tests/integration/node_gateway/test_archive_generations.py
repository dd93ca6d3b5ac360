"""The gateway's client of an archive before the archive's stand-in, a process of its own with real visas: each of SDA
v1's doors, the generation that answers 200 with XML, a server that is down, and a break in the middle.
"""

from __future__ import annotations

import io
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import httpx
import pytest
from crypt4gh import lib

from gdi.contracts.urls import SdaUrl
from gdi.local_federation.aai.running import RunningAai, running_aai
from gdi.local_federation.sda import provision
from gdi.local_federation.sda.crypt import KeyPair
from gdi.local_federation.sda.running import RunningSda, running_sda
from node_gateway import resumption
from node_gateway.archive import SdaClient
from node_gateway.downloads import SdaRefusal
from node_gateway.keys import PublicKey
from node_gateway.listed_files import Files, Listed
from tests.support.processes import free_port

DATASET, CLOSED = "https://doi.org/10.5072/gdi.(b)?v=2", "EGAD-DEMO-B"
FILE = SdaUrl.of(DATASET, "deep/cohort.bin.c4gh")
PLAIN = os.urandom(40 * 65536 + 1234)


@pytest.fixture(scope="module")
def aai(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAai]:
    entitlements = [{"user": "alice", "dataset": DATASET}]
    with running_aai(tmp_path_factory.mktemp("aai"), entitlements=entitlements) as running:
        yield running


@pytest.fixture(scope="module")
def sda(aai: RunningAai, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSda]:
    folder = tmp_path_factory.mktemp("sda")
    (folder / "plain.bin").write_bytes(PLAIN)
    for dataset in (DATASET, CLOSED):
        provision.add(folder / "archive", dataset, FILE.path, folder / "plain.bin")
    with running_sda(folder, issuer=aai.issuer, visa_issuers=[aai.visa_issuer]) as running:
        yield running


@pytest.fixture(scope="module")
def token(aai: RunningAai) -> str:
    return str(aai.sign_in("alice").access_token)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return KeyPair.load_or_make(tmp_path_factory.mktemp("keys") / "tes.sec")


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resumption, "PAUSE", 0.01)


class Reading:
    """One client's read of the file, and what it asked for."""

    def __init__(self, url: str, key: KeyPair, token: str, prefix: str = "s3-encrypted", *others: str) -> None:
        self.client = SdaClient(url, prefix=prefix, key=PublicKey.from_pem(key.pem().encode()), others=others)
        self.asked: list[str] = []
        self._key, self._token = key, token
        self.client._http.event_hooks["response"].append(self._note)

    async def _note(self, answer: httpx.Response) -> None:
        self.asked.append(f"{answer.request.url.port} {answer.request.url.raw_path.decode()} {answer.status_code}")

    async def plain(self, *, by_id: bool = True, **wrong: object) -> bytes:
        """What the TES makes of it. `by_id`: the listing says the file's id; `wrong`: what else it says."""
        listed = [f for f in await self.client.files(DATASET, self._token) if f.path.endswith("cohort.bin.c4gh")]
        known = replace(listed[0], **wrong) if by_id else replace(listed[0], id="", **wrong)  # type: ignore[arg-type]
        return await self.of(known)

    async def of(self, listed: Listed) -> bytes:
        async def fresh() -> str:
            return self._token

        files = Files(DATASET, [listed])
        download = await self.client.open(FILE, listed, files, self._token, fresh=fresh)
        try:
            sealed = b"".join([chunk async for chunk in download.chunks])
        finally:
            await download.close()
        out = io.BytesIO()
        lib.decrypt([(0, self._key.private, None)], io.BytesIO(sealed), out)
        return out.getvalue()


@pytest.fixture
async def reading(sda: RunningSda, key: KeyPair, token: str) -> AsyncIterator[Reading]:
    made = Reading(sda.url, key, token)
    yield made
    await made.client.aclose()


@pytest.mark.parametrize("prefix", ["s3", "s3-encrypted"])
async def test_both_doors_of_v1_and_the_id_give_the_listed_file(
    sda: RunningSda, key: KeyPair, token: str, prefix: str
) -> None:
    """Also of a dataset whose id is a URL, encoded once in the path."""
    made = Reading(sda.url, key, token, prefix)
    assert await made.client.datasets(token) == {DATASET}
    assert await made.plain() == PLAIN and "/files/" in made.asked[-1]
    assert await made.plain(by_id=False) == PLAIN
    assert f"/{prefix}/https%3A%2F%2Fdoi.org%2F10.5072%2Fgdi.%28b%29%3Fv%3D2/deep/cohort.bin.c4gh 200" in made.asked[-1]
    await made.client.aclose()


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"size": len(PLAIN) - 1}, "1 bytes more"),
        ({"size": len(PLAIN) + 1}, "missing"),
        ({"checksum": "0" * 64}, "checksum"),
    ],
    ids=["longer", "shorter", "checksum"],
)
async def test_what_the_listing_does_not_say_is_never_sent(
    reading: Reading, wrong: dict[str, object], why: str
) -> None:
    for by_id in (True, False):
        with pytest.raises(SdaRefusal, match=why):
            await reading.plain(by_id=by_id, **wrong)


async def test_the_generation_of_200_with_xml_is_access_withdrawn_and_no_data(
    aai: RunningAai, sda: RunningSda, key: KeyPair, token: str
) -> None:
    folder = sda.archive.parent / "old"
    (folder / "archive").mkdir(parents=True)
    provision.add(folder / "archive", CLOSED, FILE.path, sda.archive.parent / "plain.bin")
    with running_sda(folder, issuer=aai.issuer, visa_issuers=[aai.visa_issuer], flavour="before-3.1.51") as old:
        made = Reading(old.url, key, token, "s3")
        listed = Listed(FILE.path, len(PLAIN), None)
        closed = SdaUrl.of(CLOSED, FILE.path)
        with pytest.raises(SdaRefusal) as refused:
            await made.client.open(closed, listed, Files(CLOSED, [listed]), token)
        assert refused.value.error_class == "AccessDenied" and CLOSED in refused.value.reason
        assert any(line.endswith(" 200") and "/s3/" in line for line in made.asked), made.asked
        await made.client.aclose()


async def test_a_server_of_the_archive_that_is_down_is_passed_by(sda: RunningSda, key: KeyPair, token: str) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    made = Reading(dead, key, token, "s3-encrypted", sda.url)
    assert await made.plain() == PLAIN
    await made.client.aclose()
    alone = Reading(dead, key, token)
    with pytest.raises(SdaRefusal, match="does not answer"):
        await alone.plain()
    await alone.client.aclose()


async def test_a_break_in_the_middle_goes_on_by_range_where_it_broke(reading: Reading, sda: RunningSda) -> None:
    name = f"{DATASET}/{FILE.path}"
    sda.order(**{name: {"kind": "cut"}})

    async def once(answer: httpx.Response) -> None:
        if "/files/" in answer.request.url.path and not answer.request.url.path.endswith("/files"):
            sda.order()  # what goes on is whole again

    reading.client._http.event_hooks["response"].append(once)
    try:
        assert await reading.plain() == PLAIN
        assert [line.rpartition(" ")[2] for line in reading.asked[1:]] == ["200", "206"]
        reading.client._http.event_hooks["response"].remove(once)
        sda.order(**{name: {"kind": "truncated"}})
        with pytest.raises(SdaRefusal, match="missing"):
            await reading.plain()
    finally:
        sda.order()
