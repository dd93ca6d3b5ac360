"""Small parts of the gateway at their edges: locations, scrubbing, settings, policy, keys."""

from __future__ import annotations

import base64
import logging
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdi.kit.problem import ProblemError
from gdi.kit.secret_files import read_secret
from gdi.kit.settings import SettingsError
from node_gateway import policy
from node_gateway.keys import PublicKey
from node_gateway.locations import from_s3, sda_file, to_s3, workspace_file
from node_gateway.policy import Policy, PolicyFile
from node_gateway.redaction import RedactingFormatter, looks_secret, redact
from node_gateway.settings import Settings

RUN = "r-" + "0" * 20


@given(st.text(max_size=60))
def test_a_workspace_path_that_is_allowed_never_leaves_its_runs_prefix(path: str) -> None:
    try:
        file = workspace_file(f"workspace://{RUN}/{path}", RUN)
    except ProblemError as error:
        assert error.problem.status == 403
        return
    url = to_s3(file, "bucket")
    assert url.startswith(f"s3://bucket/{RUN}/") and ".." not in url.split("/") and "" not in url.split("/")[4:]
    assert from_s3(url, "bucket", RUN) == f"workspace://{RUN}/{path}"


@pytest.mark.parametrize(
    "url",
    [
        *[
            "",
            "sda:/DS/x",
            "sda://DS",
            "sda://DS/",
            "sda:///x",
            "sda://DS//x",
            "sda://DS/./x",
            "sda://DS/a/../x",
            "SDA://DS/x",
            "sda://D S/x",
        ],
        *["sda://DS/x\n", "sda://DS/x\u202e", "sda://DS/" + "a" * 901],
    ],
)
def test_what_is_not_a_plain_sda_url_is_refused(url: str) -> None:
    with pytest.raises(ProblemError):
        sda_file(url)


def test_another_buckets_url_is_told_to_no_one() -> None:
    assert from_s3("s3://other/r/x", "bucket", RUN) == "" and from_s3("file:///etc/passwd", "bucket", RUN) == ""


@pytest.mark.parametrize(
    "secret",
    [
        "gdic_" + "A" * 43,
        "#gdic_abc",
        "gdit_" + "B" * 43,
        "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl",
        "Bearer abcdefghijkl",
        "Basic Z2F0ZXdheTpwYXNz",
    ],
)
def test_secrets_are_cut_out_of_any_text(secret: str) -> None:
    text = redact(f"could not fetch sda://DS/x.c4gh#{secret} with {secret}: 401")
    assert secret.removeprefix("#") not in text and "sda://DS/x.c4gh" in text and text.endswith(": 401")
    assert looks_secret(secret) and not looks_secret("bcftools view -r 2:1-1000 in.vcf.gz")


def test_a_traceback_in_the_log_is_scrubbed_too() -> None:
    try:
        raise ValueError("token eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "f", 1, "bad %s", ("gdic_secret",), exc_info=sys.exc_info())
    text = RedactingFormatter("%(message)s").format(record)
    assert "eyJ" not in text and "gdic_secret" not in text and "ValueError" in text


def environment(monkeypatch: pytest.MonkeyPatch, **changes: str | None) -> None:
    good = {
        "NODE_ID": "node-a",
        "PORT": "8080",
        "PUBLIC_URL": "http://g/",
        "INTERNAL_PORT": "8081",
        "BROKER_URL": "http://b",
        "KEY_FILE": "k",
        "POLICY_FILE": "p",
        "DATABASE_URL": "sqlite+aiosqlite:///x.db",
        "TES_URL": "http://t",
        "TES_USER": "u",
        "TES_PASSWORD_FILE": "f",
        "TES_PUBLIC_KEY_FILE": "f",
        "SDA_URL": "http://s",
        "S3_ENDPOINT": "http://s3",
        "S3_CREDENTIALS_FILE": "c",
        "WORKSPACE_BUCKET": "work",
        "RELEASE_BUCKET": "rel",
    }
    for name, value in {**good, **changes}.items():
        if value is not None:
            monkeypatch.setenv(f"NODE_GATEWAY_{name}", value)


def test_every_wrong_setting_is_named_at_once_and_no_value_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    environment(monkeypatch, NODE_ID="NOT OK", SDA_URL="ftp://user:hunter2@x", KEY_FILE=None, PORT="0")
    with pytest.raises(SettingsError) as error:
        Settings.load()
    text = str(error.value)
    assert (
        all(f"NODE_GATEWAY_{name}" in text for name in ("NODE_ID", "SDA_URL", "KEY_FILE", "PORT"))
        and "hunter2" not in text
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"INTERNAL_SOCKET": "/x"}, "exactly one"),
        ({"INTERNAL_PORT": None}, "exactly one"),
        ({"RELEASE_BUCKET": "work"}, "must differ"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str | None], said: str
) -> None:
    environment(monkeypatch, **changes)
    with pytest.raises(SettingsError, match=said):
        Settings.load()


def test_good_settings_lose_their_trailing_slashes(monkeypatch: pytest.MonkeyPatch) -> None:
    environment(monkeypatch)
    settings: Settings = Settings.load()
    assert settings.public_url == "http://g" and settings.issuer == "http://b"


def test_a_secret_that_others_may_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(b"x")
    file.chmod(0o644)
    with pytest.raises(SettingsError, match="chmod 600"):
        read_secret(file, "KEY_FILE")
    file.chmod(0o600)
    assert read_secret(file, "KEY_FILE") == b"x"
    with pytest.raises(SettingsError, match="No such file"):
        read_secret(tmp_path / "none", "KEY_FILE")


def test_an_empty_policy_allows_no_image_no_release_no_log(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("")
    current = PolicyFile(file).current()
    assert (
        current == Policy()
        and not current.allows_image("x")
        and current.releases.kinds == []
        and current.logs == "nobody"
        and current.floor == 5
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("flor: 5", "flor"),
        ("floor: 0", "floor"),
        ("images: {", "not YAML"),
        ("- a", "document"),
        ("releases: {checks: [none]}", "releases.checks"),
        ("releases: {kinds: [matrix], rounds: true}", "releases.rounds: .*before a stranger has attacked their rules"),
        ("releases: {kinds: [none]}", "releases.kinds.0: .*Use one of these: allele-counts"),
    ],
)
def test_a_wrong_policy_names_file_and_field(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(text)
    with pytest.raises(policy.PolicyError, match=said) as error:
        policy.load(file)
    assert str(file) in str(error.value)


def test_the_policys_old_name_for_kinds_is_read_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("releases: {kinds: [allele-counts]}")
    now = policy.load(file)
    assert not caplog.records
    file.write_text("releases: {checks: [allele-counts]}")
    assert policy.load(file) == now and "releases.checks is named releases.kinds now" in caplog.text
    file.write_text("releases: {checks: [allele-counts], kinds: []}")
    with pytest.raises(policy.PolicyError, match="checks"):
        policy.load(file)


def test_a_workflow_may_be_pinned_by_its_digest() -> None:
    digest = "sha256:" + "a" * 64
    pinned = Policy(placement="coordinator", workflows=[f"af@{digest}", "open"])
    assert (
        pinned.allows_workflow("af", digest)
        and not pinned.allows_workflow("af", "sha256:" + "b" * 64)
        and pinned.allows_workflow("open", "sha256:" + "b" * 64)
    )


@given(st.binary(max_size=200))
def test_only_the_registered_key_is_the_registered_key(other: bytes) -> None:
    def pem(raw: bytes) -> bytes:
        return (
            b"-----BEGIN CRYPT4GH PUBLIC KEY-----\n" + base64.b64encode(raw) + b"\n-----END CRYPT4GH PUBLIC KEY-----\n"
        )

    key = PublicKey.from_pem(pem(b"k" * 32))
    assert key.is_header(key.header) and key.is_header(base64.b64encode(pem(b"k" * 32).strip()).decode())
    assert not key.is_header(base64.b64encode(other).decode()) and not key.is_header(other.decode("latin-1"))
    assert not key.is_header(base64.b64encode(pem(b"o" * 32)).decode())
