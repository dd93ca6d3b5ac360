"""A test cluster's certificates and kubeconfigs, all from one authority that lives as long as the cluster."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gdi.kit.secret_files import write_private

LIFE = datetime.timedelta(days=2)


def admin(folder: Path) -> ssl.SSLContext:
    """The cluster's administrator, for a client of its API server. `folder`: the authority's."""
    context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    context.load_cert_chain(folder / "admin.crt", folder / "admin.key")
    return context


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


class Authority:
    """Signs client and server certificates into a folder: ca.crt, NAME.crt, NAME.key (mode 0600)."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test cluster")])
        made = (
            self._builder(self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate = made.public_bytes(serialization.Encoding.PEM)
        (folder / "ca.crt").write_bytes(self.certificate)

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key.public_key())
        return (
            builder.serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + LIFE)
        )

    def issue(
        self,
        name: str,
        user: str,
        *,
        groups: tuple[str, ...] = (),
        addresses: tuple[str, ...] = (),
        names: tuple[str, ...] = (),
    ) -> None:
        """`user` and `groups` are who Kubernetes takes the bearer for (CN and O)."""
        key = ec.generate_private_key(ec.SECP256R1())
        parts = [
            x509.NameAttribute(NameOID.COMMON_NAME, user),
            *(x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups),
        ]
        builder = self._builder(x509.Name(parts), key)
        usages = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH])
        builder = builder.add_extension(usages, critical=False)
        if addresses or names:
            general = [*(x509.IPAddress(ipaddress.ip_address(a)) for a in addresses), *(x509.DNSName(n) for n in names)]
            builder = builder.add_extension(x509.SubjectAlternativeName(general), critical=False)
        (self.folder / f"{name}.crt").write_bytes(
            builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )
        write_private(self.folder / f"{name}.key", _pem(key))

    def service_account_keys(self) -> None:
        """sa.key and sa.pub, which sign the pods' projected tokens (RS256, as clusters commonly do)."""
        key = rsa.generate_private_key(65537, 2048)
        write_private(self.folder / "sa.key", _pem(key))
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        (self.folder / "sa.pub").write_bytes(public)

    def kubeconfig(self, name: str, server: str) -> Path:
        """A kubeconfig (JSON, which is YAML) for the issued certificate `name`."""

        def inline(file: str) -> str:
            return base64.b64encode((self.folder / file).read_bytes()).decode()

        user = {"client-certificate-data": inline(f"{name}.crt"), "client-key-data": inline(f"{name}.key")}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": "test", "cluster": {"server": server, "certificate-authority-data": inline("ca.crt")}}
            ],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": name}}],
            "current-context": "test",
        }
        return write_private(self.folder / f"{name}.conf", json.dumps(config))
