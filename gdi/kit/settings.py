"""Settings from environment variables, read once and checked at start, with a line for each mistake."""

from __future__ import annotations

from typing import ClassVar, Self

import pydantic_settings
from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict


class SettingsError(Exception):
    """A setting, or a file that one names, is missing or wrong: which, and what to do. Never shows a secret."""


class EnvironmentSettings(BaseSettings):
    """The base of a process's settings. A subclass gives `env_prefix` in its `model_config`."""

    model_config = SettingsConfigDict(extra="ignore", hide_input_in_errors=True)
    heading: ClassVar[str] = ""  # before the lines of the mistakes, where not empty

    @classmethod
    def load(cls) -> Self:
        """The settings from the environment. SettingsError with a line for each mistake, by its variable's name."""
        try:
            settings = cls()
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False, include_input=False)
            lines = [cls.sentence(one["loc"], one["msg"]) for one in found]
            raise SettingsError("\n  ".join([cls.heading, *lines] if cls.heading else lines)) from None
        except pydantic_settings.SettingsError as error:  # a list or mapping that is no JSON; it names the field only
            raise SettingsError(f"{cls.model_config.get('env_prefix', '')}*: {error}") from None
        settings.check_files()
        return settings

    def check_files(self) -> None:
        """SettingsError where a file that the settings name is not fit. A subclass says which."""

    @classmethod
    def variable(cls, field: str) -> str:
        """The name of a field's environment variable."""
        return f"{cls.model_config.get('env_prefix', '')}{field}".upper()

    @classmethod
    def sentence(cls, loc: tuple[int | str, ...], message: str) -> str:
        """A mistake as a line: the variable and what is wrong; without the variable where it is in several."""
        text = message.removeprefix("Value error, ")
        return f"{cls.variable('_'.join(str(part) for part in loc))}: {text}" if loc else text
