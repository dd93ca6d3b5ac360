"""Who may make visas, as an operator writes it: a pair of issuer and key set."""

from __future__ import annotations

from pydantic import Field, field_validator

from gdi.kit.models import Frozen
from gdi.kit.web_url import secure_url


class VisaIssuer(Frozen):
    """A trusted pair of issuer and key set. `sources`: whose datasets it may speak for (empty: any). `links`: whether
    its LinkedIdentities visas count, which make two identities one person.
    """

    iss: str
    jku: str
    sources: list[str] = Field(default_factory=list)
    links: bool = False

    @field_validator("jku")
    @classmethod
    def _url(cls, value: str) -> str:
        secure_url(value)
        return value
