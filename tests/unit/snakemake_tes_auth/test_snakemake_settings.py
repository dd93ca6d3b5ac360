"""What a user types for the executor: what fits together makes a session, what does not is named with what to write."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_common.plugin_registry.plugin import TaggedSettings

from snakemake_tes_auth.credentials.oauth import ClientCredentials
from snakemake_tes_auth.credentials.tokens import BasicPassword, FileTokens, FixedToken, NoToken
from snakemake_tes_auth.retry import Refusal
from snakemake_tes_auth.settings import ExecutorSettings, base_url, credential, open_session
from snakemake_tes_auth.workflow import adapter


def workflow(folder: Path, prefix: str = "s3://bucket/prefix", config: dict[str, Any] | None = None) -> Any:
    """As much of a Snakemake workflow as a session asks for."""
    (folder / "Snakefile").write_text("rule all:\n")
    source = SimpleNamespace(get_path_or_uri=lambda secret_free: str(folder / "Snakefile"))
    return SimpleNamespace(
        main_snakefile=str(folder / "Snakefile"),
        included=[source],
        rules=[],
        execution_settings=SimpleNamespace(lock=True),
        configfiles=[],
        config_settings=SimpleNamespace(overwrite_config=config or {}),
        storage_registry=SimpleNamespace(default_storage_provider=object()),
        storage_settings=SimpleNamespace(default_storage_prefix=prefix),
    )


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"url": "tes.example.org"}, "--tes-auth-url"),
        ({"url": "https://me:secret@tes.example.org"}, "no user or password"),
        ({"url": "file:///etc"}, "--tes-auth-url"),
        ({}, "give either --tes-auth-url"),
        ({"url": "https://x.test", "run_file": "run.json"}, "give either --tes-auth-url"),
        ({"run_file": "/none/run.json"}, "/none/run.json cannot be read"),
        ({"url": "https://x.test", "token": "a", "user": "u"}, "more than one credential"),
        (
            {"url": "https://x.test", "token_file": Path("t"), "client_id": "u"},
            "--tes-auth-token-file, --tes-auth-client-id",
        ),
        ({"url": "https://x.test", "user": "u"}, "needs both"),
        ({"url": "https://x.test", "password_file": Path("p")}, "needs both"),
        ({"url": "https://x.test", "client_id": "c", "client_secret_file": Path("s")}, "one of --tes-auth-token-url"),
        (
            {
                "url": "https://x.test",
                "client_id": "c",
                "client_secret_file": Path("s"),
                "token_url": "https://a",
                "issuer": "https://b",
            },
            "one of",
        ),
        ({"url": "http://x.test", "token_file": Path("t")}, "is not https"),
        ({"url": "https://x.test", "token": "hunter 2"}, "no bearer token"),
        ({"url": "https://x.test", "run_name": "a b"}, "--tes-auth-run-name"),
        ({"url": "https://x.test", "ca_file": Path("/none")}, "--tes-auth-ca-file"),
    ],
)
def test_settings_that_do_not_fit_are_named_and_no_secret_with_them(
    settings: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(WorkflowError) as error:
        open_session(ExecutorSettings(**settings), workflow(tmp_path))
    assert says in str(error.value) and "secret@" not in str(error.value) and "hunter" not in str(error.value)


def test_a_token_on_the_command_line_is_refused_and_the_environments_is_taken_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SNAKEMAKE_TES_AUTH_TOKEN", "abc")
    assert isinstance(credential(ExecutorSettings(token="abc"), "https://x.test"), FixedToken)
    assert "SNAKEMAKE_TES_AUTH_TOKEN" not in os.environ, "local rules and their commands inherit the environment"
    for argument in ("--tes-auth-token", "--tes-auth-token=abc"):
        monkeypatch.setattr("sys.argv", ["snakemake", argument])
        with pytest.raises(Refusal, match="does not belong on the command line"):
            credential(ExecutorSettings(token="abc"), "https://x.test")


def test_each_credential_has_its_source() -> None:
    def of(**settings: Any) -> Any:
        return credential(ExecutorSettings(**settings), "https://x.test")

    oauth = {"client_id": "c", "client_secret_file": Path("s")}
    assert isinstance(of(), NoToken) and isinstance(of(token_file=Path("t")), FileTokens)
    assert isinstance(of(user="u", password_file=Path("p")), BasicPassword)
    assert isinstance(of(**oauth, issuer="https://i"), ClientCredentials) and isinstance(
        of(**oauth, token_url="https://t"), ClientCredentials
    )


@pytest.mark.parametrize(
    "tail", ["", "/", "/ga4gh/tes/v1", "/ga4gh/tes/v1/", "/ga4gh/tes/v1/tasks", "/ga4gh/tes/v1/service-info"]
)
def test_the_tess_address_may_be_given_with_or_without_the_apis_path(tail: str) -> None:
    assert base_url("https://tes.example.org:8443/a" + tail) == "https://tes.example.org:8443/a"


def test_a_runs_name_comes_from_storage_and_workflow_alone(tmp_path: Path) -> None:
    """Another process, another folder: the same name. Another storage, configuration or Snakefile: another."""

    def name(folder: str, **changes: Any) -> str:
        (tmp_path / folder).mkdir(exist_ok=True)
        return open_session(ExecutorSettings(url="http://127.0.0.1:1"), workflow(tmp_path / folder, **changes)).name

    assert name("a") == name("b") != name("a", prefix="s3://bucket/other")
    assert name("a") != name("a", config={"x": 1}) == name("b", config={"x": 1})


def test_a_token_is_not_in_the_settings_repr() -> None:
    assert "abc-4711" not in repr(ExecutorSettings(token="abc-4711"))


def test_credentials_are_the_files_of_storage_settings_and_of_the_clouds_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("key.json", "config", "real"):
        (tmp_path / name).touch()
    (tmp_path / "netrc").symlink_to("real")
    tagged = TaggedSettings()
    tagged.register_settings(SimpleNamespace(keyfile=tmp_path / "key.json", token="x" * 5000, retries=3))
    tagged.register_settings(SimpleNamespace(keyfile=None, endpoint="https://s3.example.org"), "other")
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path}/config:{tmp_path}/missing")
    monkeypatch.setenv("NETRC", f"{tmp_path}/netrc")
    read: Any = SimpleNamespace(storage_provider_settings={"gcs": tagged})
    named = {tmp_path / name for name in ("config", "netrc", "real")}
    assert adapter.credential_files(read) == named | {tmp_path / "key.json"}
    read.storage_provider_settings = None
    assert adapter.credential_files(read) == named
