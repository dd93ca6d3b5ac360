"""Storage queries as Snakemake has them: the federation's URLs (gdi.contracts.urls), with wildcards in them."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from gdi.contracts import urls
from gdi.contracts.urls import DrsUrl, StorageUrl

_WILDCARDS = re.compile(r"(\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\})")


def parse(text: str) -> StorageUrl:
    """UrlError where `text` is none. Wildcards (`{sample}`) pass: Snakemake asks before it fills them in."""
    return urls.parse(text, wildcards=True)


def local_suffix(query: StorageUrl) -> str:
    """Where the file lies below the provider's local prefix. Without the run's id: a job's command is the same in each
    run. What htsget asks of a file is a folder before its name (`referenceName=20,start=0`): commands are not quoted
    by everybody, and a file keeps its suffix. An object's id lies as it is, its `%` as `~`, one by a compact identifier
    below `compact`: `drs://gdi.1/5` and `drs://gdi.1:5` are two objects.
    """
    if isinstance(query, DrsUrl):
        if query.compact:  # whose id has no encoding
            return f"drs/compact/{query.owner}/{_plain(query.path.replace('%', '%25'))}"
        return f"drs/{query.owner}/{_plain(query.path)}"
    owner = "" if query.scheme == "workspace" else f"{query.owner}/"
    path, _, parameters = query.path.partition("?") if query.scheme == "htsget" else (query.path, "", "")
    if parameters:
        folder, _, name = path.rpartition("/")
        path = "/".join(part for part in (folder, ",".join(map(_plain, parameters.split("&"))), name) if part)
    return f"{query.scheme}/{owner}{path}"


def _plain(text: str) -> str:
    """Without anything that a shell or a gateway's check of paths would mind (`*` is `~2A`); wildcards stay."""
    return "".join(part if part.startswith("{") else _escaped(unquote(part)) for part in _WILDCARDS.split(text))


def _escaped(text: str) -> str:
    return quote(text, safe="=:").replace("~", "%7E").replace("%", "~")
