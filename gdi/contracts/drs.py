"""What a DRS server (GA4GH Data Repository Service 1.4) says of an object, as far as a node reads it.

Source: `openapi/components/schemas/DrsObject.yaml` of ga4gh/data-repository-service-schemas. Headers that an access
URL needs may hold credentials and are not read; nor is the URL ever followed.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

# `Hash Name String` of IANA's registry of named information, or as servers write it: the letters of its hex form
CHECKSUM_LENGTHS = {
    "md5": 32,
    "sha-1": 40,
    "sha1": 40,
    "sha-256": 64,
    "sha256": 64,
    "sha-384": 96,
    "sha384": 96,
    "sha-512": 128,
    "sha512": 128,
}


class DrsChecksum(BaseModel):
    model_config = ConfigDict(extra="ignore")

    checksum: Annotated[str, Field(min_length=1, max_length=500)]
    type: Annotated[str, Field(min_length=1, max_length=100)]


class DrsAccessUrl(BaseModel):
    model_config = ConfigDict(extra="ignore")

    url: Annotated[str, Field(max_length=4000)]


class DrsAccessMethod(BaseModel):
    model_config = ConfigDict(extra="ignore")

    type: Annotated[str, Field(max_length=100)]
    access_url: DrsAccessUrl | None = None
    access_id: Annotated[str | None, Field(max_length=1000)] = None


class DrsObject(BaseModel):
    """`size` in bytes. With `contents` it is a bundle, otherwise one blob."""

    model_config = ConfigDict(extra="ignore")

    id: Annotated[str, Field(min_length=1, max_length=1000)]
    name: Annotated[str | None, Field(max_length=1000)] = None
    size: Annotated[int, Field(ge=0)]
    checksums: Annotated[list[DrsChecksum], Field(min_length=1, max_length=50)]
    access_methods: Annotated[list[DrsAccessMethod] | None, Field(max_length=100)] = None
    contents: list[Any] | None = None  # whatever a bundle holds: it is refused

    def checksums_of(self, length: int) -> set[str]:
        """Its checksums in lower case whose digest has so many hex letters."""
        return {
            found
            for one in self.checksums
            if CHECKSUM_LENGTHS.get(one.type.lower()) == length and len(found := one.checksum.lower()) == length
        }
