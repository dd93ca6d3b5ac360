"""The gateway's internal listener under mTLS: nobody without a certificate of the node's authority gets a byte; the
relay beside the TES has one.
"""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gdi.funnel import crypt4gh_proxy
from gdi.funnel.beside_tes import tls
from node_gateway.listeners import _server, _tcp

FILE = b"crypt4gh" + (1).to_bytes(4, "little") + (0).to_bytes(4, "little") + b"x" * 200_000


class Authority:
    """A certificate authority of a test's own, in folders as cert-manager writes its Secrets."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._sign("authority", self.key.public_key(), None)

    def _sign(self, name: str, public: Any, issuer: x509.Name | None) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer or subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
        )
        made = made.not_valid_before(now - datetime.timedelta(minutes=5)).not_valid_after(
            now + datetime.timedelta(hours=1)
        )
        made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        return made.add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True).sign(
            self.key, hashes.SHA256()
        )

    def issue(self, folder: Path, name: str) -> Path:
        folder.mkdir()
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(name, key.public_key(), self.certificate.subject)
        pem = serialization.Encoding.PEM
        (folder / "tls.key").write_bytes(
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        (folder / "tls.crt").write_bytes(certificate.public_bytes(pem))
        (folder / "ca.crt").write_bytes(self.certificate.public_bytes(pem))
        return folder


async def application(scope: Any, receive: Any, send: Any) -> None:
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/octet-stream")]}
    )
    await send({"type": "http.response.body", "body": FILE})


@asynccontextmanager
async def listening(certificates: Path) -> AsyncIterator[int]:
    files = {"cert_file": certificates / "tls.crt", "key_file": certificates / "tls.key"}
    settings: Any = SimpleNamespace(
        shutdown_seconds=1,
        internal_client_ca_file=certificates / "ca.crt",
        **{f"internal_tls_{k}": v for k, v in files.items()},
    )
    listener = _tcp("127.0.0.1", 0)
    server = _server(application, settings, internal=True)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    async with asyncio.timeout(20):
        while not server.started:
            await asyncio.sleep(0.01)
    try:
        yield int(listener.getsockname()[1])
    finally:
        server.should_exit = True
        await serving


async def test_only_a_client_with_the_nodes_certificate_is_answered(tmp_path: Path) -> None:
    authority = Authority()
    server, client, stranger = (
        authority.issue(tmp_path / "server", "gateway"),
        authority.issue(tmp_path / "client", "tes"),
        tmp_path / "stranger",
    )
    Authority().issue(stranger, "tes")
    (stranger / "ca.crt").write_bytes(
        (server / "ca.crt").read_bytes()
    )  # it trusts the gateway; the gateway does not trust it
    async with listening(server) as port:
        url = f"https://localhost:{port}/s3/DS/file.c4gh"
        for context in (ssl.create_default_context(cafile=str(server / "ca.crt")), tls(stranger)):
            async with httpx.AsyncClient(verify=context, trust_env=False) as http:
                with pytest.raises(httpx.HTTPError):
                    await http.get(url)
        async with httpx.AsyncClient(trust_env=False) as http:
            with pytest.raises(httpx.HTTPError):
                await http.get(f"http://localhost:{port}/s3/DS/file.c4gh")
        async with httpx.AsyncClient(verify=tls(client), trust_env=False) as http:
            assert (await http.get(url)).content == FILE


async def test_what_runs_beside_the_tes_brings_a_file_whole_through_mtls(tmp_path: Path) -> None:
    authority = Authority()
    server, client = authority.issue(tmp_path / "server", "gateway"), authority.issue(tmp_path / "client", "tes")
    async with listening(server) as port:
        beside = await crypt4gh_proxy.serve(0, crypt4gh_proxy.Upstream(f"https://localhost:{port}", tls(client)))
        try:
            own = beside.sockets[0].getsockname()[1]
            async with httpx.AsyncClient(trust_env=False) as http:
                assert (await http.get(f"http://127.0.0.1:{own}/s3/DS/file.c4gh")).content == FILE
        finally:
            await crypt4gh_proxy.stop(beside)
