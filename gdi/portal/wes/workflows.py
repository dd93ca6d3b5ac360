"""Which workflow of the catalogue a WES request means: by name, by this server's URL, or by files that are those of an
approved version (a Workflow Run Crate, or the workflow's own files).
"""

from __future__ import annotations

import io
import lzma
import zipfile
import zlib
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from gdi.contracts.ids import DIGEST, WORKFLOW_NAME, matches
from gdi.contracts.workflow import CatalogueEntry, CatalogueError
from gdi.contracts.workflow_files import MAX_BYTES, MAX_FILES, digest_of_files
from gdi.kit.problem import ProblemError
from gdi.portal.catalogue import Catalogue
from gdi.portal.wes.requests import bad

CRATE_FOLDER = "workflow/"  # where a crate of ours has the workflow's files
METADATA = "ro-crate-metadata.json"
MAX_CRATE_FILES = 5000
TYPES = ("smk", "snakemake")


def workflow_of(catalogue: Catalogue, public_url: str, url: str, attachments: Mapping[str, bytes]) -> CatalogueEntry:
    """ProblemError 400 naming what was not accepted."""
    if not url:
        raise bad("workflow_url: is needed.", "Name a workflow of the catalogue: GET /v1/workflows lists them.")
    if url.removeprefix("./") in attachments:
        return _attached(catalogue, url.removeprefix("./"), attachments)
    if attachments:
        first = next(iter(attachments))
        raise bad(
            f"The attachment {first!r} is not used: workflow_url does not name it.",
            "Leave it out, or let workflow_url name the attached crate or Snakefile.",
            "bad-attachment",
        )
    name = url
    if url.startswith(("http://", "https://")):
        parts, here = urlsplit(url), urlsplit(public_url)
        prefix = f"{here.path}/v1/workflows/"
        if (parts.scheme, parts.netloc) != (here.scheme, here.netloc) or not parts.path.startswith(prefix):
            raise _not_approved(url)
        name = unquote(parts.path.removeprefix(prefix))
    name, _, version = name.partition("@")
    if not matches(WORKFLOW_NAME, name) or name not in catalogue.entries():
        raise _not_approved(url)
    entry = catalogue.entries()[name]
    if version and version not in (entry.digest, entry.workflow.version):
        what = "digest" if matches(DIGEST, version) else "version"
        raise bad(
            f"The catalogue has no {what} {version[:80]!r} of {name}.",
            "Leave it out, or ask for its approval.",
            "workflow-not-approved",
        )
    return entry


def _attached(catalogue: Catalogue, name: str, attachments: Mapping[str, bytes]) -> CatalogueEntry:
    data = attachments[name]
    files = _of_crate(name, data) if data.startswith(b"PK") else dict(attachments)
    try:
        digest = digest_of_files(files)
    except CatalogueError as error:
        raise bad(f"The attachment {name!r} cannot be used: {error}.", slug="bad-attachment") from None
    entry = catalogue.of_digest(digest)
    if entry is None:
        raise bad(
            f"The workflow in the attachment {name!r} ({digest}) is not approved.",
            "Use a workflow of the catalogue (GET /v1/workflows), or ask the federation to approve this version.",
            "workflow-not-approved",
        )
    return entry


def _of_crate(name: str, data: bytes) -> dict[str, bytes]:
    """The workflow's files in a zipped RO-Crate, read within bounds."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as crate:
            names = crate.namelist()
            if METADATA not in names or len(names) > MAX_CRATE_FILES:
                raise bad(f"The attachment {name!r} is no RO-Crate: {METADATA} is missing.", slug="bad-attachment")
            wanted = [i for i in crate.infolist() if i.filename.startswith(CRATE_FOLDER) and not i.is_dir()]
            if len(wanted) > MAX_FILES or sum(i.file_size for i in wanted) > MAX_BYTES:
                raise bad(f"The workflow in the attachment {name!r} is too large.", slug="bad-attachment")
            found = {}
            for item in wanted:
                with crate.open(item) as file:
                    content = file.read(MAX_BYTES + 1)
                if len(content) > MAX_BYTES:
                    raise bad(f"The workflow in the attachment {name!r} is too large.", slug="bad-attachment")
                found[item.filename.removeprefix(CRATE_FOLDER)] = content
            return found
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, NotImplementedError, RuntimeError, EOFError, OSError):
        raise bad(f"The attachment {name!r} is no readable zip file.", slug="bad-attachment") from None


def _not_approved(url: str) -> ProblemError:
    return bad(
        f"workflow_url: {url[:200]!r} is not approved in this federation.",
        "Name a workflow of the catalogue: GET /v1/workflows lists them.",
        "workflow-not-approved",
    )
