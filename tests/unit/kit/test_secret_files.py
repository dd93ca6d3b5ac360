"""A secret's file is judged by one rule, whoever reads it: nobody but its owner may."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from gdi.kit import secret_files
from gdi.kit.jose import SigningKey
from gdi.kit.secret_files import read_secret, read_secret_text
from gdi.kit.settings import SettingsError
from gdi.local_federation.aai.config import _secret as of_the_stand_in
from gdi.runner.host.identity import _key as of_the_process_host
from node_gateway.settings import s3_credentials as of_the_gateway
from token_broker.tokens.vault_login import AppRole

MODES = [0o640, 0o620, 0o610, 0o604, 0o602, 0o601, 0o660, 0o644]


def kept(path: Path, mode: int, content: bytes = b"  s3cret-text\n") -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("mode", MODES)
def test_every_room_refuses_a_file_that_anybody_else_may_use(tmp_path: Path, mode: int) -> None:
    file = kept(tmp_path / "secret", mode, SigningKey.generate().pem())
    readers = [
        lambda: read_secret(file, "X"),
        lambda: read_secret_text(file, "X"),
        lambda: of_the_stand_in(file, "X"),
        lambda: of_the_process_host(file),
        lambda: of_the_gateway(file),
        AppRole(file, file).prepare,
    ]
    for read in readers:
        with pytest.raises(SettingsError, match="chmod 600") as caught:
            read()
        assert str(file) in str(caught.value) and "PRIVATE KEY" not in str(caught.value)


def test_the_owners_own_file_is_read_whole_or_as_text(tmp_path: Path) -> None:
    for mode in (0o600, 0o400, 0o700):
        file = kept(tmp_path / f"secret-{mode:o}", mode)
        assert read_secret(file) == b"  s3cret-text\n" and read_secret_text(file) == "s3cret-text"


@pytest.mark.parametrize(
    ("owner", "group", "mode", "of_cluster", "good"),
    [
        (0, 10001, 0o440, False, True),  # a mounted Secret
        (0, 10001, 0o444, False, False),
        (0, 10001, 0o460, False, False),
        (0, 20002, 0o440, False, False),  # readable by a group that is not this pod's
        (10001, 10001, 0o640, False, False),
        (10001, 10001, 0o640, True, True),  # a projected token: the kubelet keeps it
        (10001, 10001, 0o644, True, False),
        (10001, 20002, 0o640, True, False),
    ],
)
def test_a_cluster_may_give_a_file_to_the_pods_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: int, group: int, mode: int, of_cluster: bool, good: bool
) -> None:
    file = kept(tmp_path / "secret", 0o600)
    found = SimpleNamespace(st_uid=owner, st_gid=group, st_mode=0o100000 | mode)
    system = {"geteuid": lambda: 10001, "getegid": lambda: 10001, "getgroups": list, "fstat": lambda _: found}
    monkeypatch.setattr(secret_files, "os", SimpleNamespace(**system))
    if good:
        assert read_secret_text(file, of_cluster=of_cluster) == "s3cret-text"
    else:
        with pytest.raises(SettingsError, match="may be read by others"):
            read_secret(file, of_cluster=of_cluster)


@pytest.mark.parametrize("content", [b"", b" \n", b"x" * (64 * 1024 + 1)])
def test_a_secret_is_something_and_bounded(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(SettingsError, match=r"X: .* is empty or larger"):
        read_secret(kept(tmp_path / "secret", 0o600, content), "X")


def test_a_file_that_is_not_there_or_no_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"X: .*none: No such file"):
        read_secret(tmp_path / "none", "X")
    with pytest.raises(SettingsError, match="is not UTF-8 text"):
        read_secret_text(kept(tmp_path / "secret", 0o600, b"\xff\xfe"), "X")
    assert os.listdir(tmp_path) == ["secret"]
