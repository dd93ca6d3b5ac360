"""Where a task may read and write, as the outside names it: `sda://DATASET/path` and `workspace://RUN/path`. Anything
else is refused here.
"""

from __future__ import annotations

from gdi.contracts import urls
from gdi.contracts.urls import DrsUrl, HtsgetUrl, SdaUrl, UrlError, WorkspaceUrl
from gdi.kit.problem import ProblemError
from node_gateway.redaction import redact


def refused(what: str, why: str) -> ProblemError:
    return ProblemError(
        403,
        "forbidden-location",
        f"{redact(what, 200)!r} is not allowed: {why}.",
        action="Read sda://DATASET/path of this run's datasets or workspace://RUN/path of this run; write to workspace://RUN/path.",
    )


def check_path(path: str, what: str) -> str:
    """A relative path with plain segments, at most 900 bytes. ProblemError 403 where a part could lead elsewhere."""
    if why := urls.check_path(path):
        raise refused(what, why)
    return path


def sda_file(url: str) -> SdaUrl:
    """`sda://DATASET/path`. ProblemError 403 for anything else."""
    try:
        return SdaUrl.parse(url)
    except UrlError as error:
        raise refused(url, error.why) from None


def drs_object(url: str) -> DrsUrl:
    """`drs://HOST/ID` or a compact identifier. ProblemError 403 for anything else."""
    try:
        return DrsUrl.parse(url)
    except UrlError as error:
        raise refused(url, error.why) from None


def htsget_file(url: str) -> HtsgetUrl:
    """`htsget://DATASET/file?…` or `htsget://reads/DATASET/ID?…`, a slice of the node's own archive. ProblemError 403
    for anything else.
    """
    try:
        file = HtsgetUrl.parse(url)
    except UrlError as error:
        raise refused(url, error.why) from None
    request = file.request
    if request is None or "/" not in request.id:
        raise refused(
            url, "this node's archive alone is asked: write htsget://DATASET/file or htsget://reads/DATASET/ID"
        )
    return file


def workspace_file(url: str, run: str) -> WorkspaceUrl:
    """`workspace://RUN/path` of `run` only. ProblemError 403 for anything else."""
    try:
        file = WorkspaceUrl.parse(url)
    except UrlError as error:
        raise refused(url, error.why) from None
    if file.run != run:
        raise refused(url, "it belongs to another run")
    return file


def to_s3(file: WorkspaceUrl, bucket: str) -> str:
    """Where the node keeps a file of a workspace."""
    return f"s3://{bucket}/{file.run}/{file.path}"


def from_s3(url: str, bucket: str, run: str) -> str:
    """The outside's name of an `s3://` URL that the gateway made; empty for any other (nothing of the node's storage is
    told).
    """
    prefix = f"s3://{bucket}/{run}/"
    return str(WorkspaceUrl(run, url.removeprefix(prefix))) if url.startswith(prefix) else ""


def check_container_path(path: str, field: str) -> str:
    """An absolute, plain path under `/gdi/`: where the task sees files. ProblemError 403 otherwise."""
    if not path.startswith("/gdi/"):
        raise ProblemError(
            403,
            "forbidden-path",
            f"{field} {redact(path, 200)!r} is not under /gdi/.",
            action="Use /gdi/work/… or /gdi/workflow/….",
        )
    check_path(path.removeprefix("/gdi/"), path)
    return path
