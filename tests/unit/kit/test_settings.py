"""Settings from the environment: each mistake on a line by its variable, none with its value."""

from __future__ import annotations

from typing import ClassVar, Self

import pytest
from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from gdi.kit.settings import EnvironmentSettings, SettingsError


class Example(EnvironmentSettings):
    model_config = SettingsConfigDict(env_prefix="EXAMPLE_")
    heading: ClassVar[str] = "The example's settings are wrong:"
    port: int = Field(ge=1)
    words: list[str] = []  # noqa: RUF012  # pydantic copies it
    one: str = ""
    two: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.one and self.two:
            raise ValueError("set ONE or TWO, not both")
        return self

    def check_files(self) -> None:
        if self.one == "unfit":
            raise SettingsError("EXAMPLE_ONE: is not fit")


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"PORT": "hunter2"}, "The example's settings are wrong:\n  EXAMPLE_PORT: Input should be a valid integer"),
        ({}, "The example's settings are wrong:\n  EXAMPLE_PORT: Field required"),
        ({"PORT": "1", "ONE": "hunter2", "TWO": "x"}, "The example's settings are wrong:\n  set ONE or TWO, not both"),
        ({"PORT": "1", "WORDS": "hunter2"}, 'EXAMPLE_*: error parsing value for field "words"'),
        ({"PORT": "1", "ONE": "unfit"}, "EXAMPLE_ONE: is not fit"),
    ],
)
def test_a_mistake_is_told_by_its_variable_and_no_value_is_shown(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], told: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"EXAMPLE_{name}", value)
    with pytest.raises(SettingsError) as caught:
        Example.load()
    assert str(caught.value).startswith(told) and "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_good_settings_are_read_and_others_variables_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXAMPLE_PORT", "8080")
    monkeypatch.setenv("EXAMPLE_NONESUCH", "x")
    assert Example.load().port == 8080
