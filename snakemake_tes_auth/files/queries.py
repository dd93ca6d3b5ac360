"""Storage queries as Snakemake has them: the federation's URLs (gdi.contracts.urls), with wildcards in them."""

from __future__ import annotations

from gdi.contracts import urls
from gdi.contracts.urls import StorageUrl


def parse(text: str) -> StorageUrl:
    """UrlError where `text` is none. Wildcards (`{sample}`) pass: Snakemake asks before it fills them in."""
    return urls.parse(text, wildcards=True)


def local_suffix(query: StorageUrl) -> str:
    """Where the file lies below the provider's local prefix. Without the run's id: a job's command is the same in each
    run.
    """
    owner = "" if query.scheme == "workspace" else f"{query.owner}/"
    return f"{query.scheme}/{owner}{query.path}"
