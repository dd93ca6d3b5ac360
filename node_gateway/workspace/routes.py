"""`GET /workspace/{run}`, `HEAD|DELETE /workspace/{run}/{path}` under a run token with the scope `workspace`: a run's
own files, never their content.
"""

from __future__ import annotations

from email.utils import formatdate
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from gdi.contracts.gateway_api import StoredFile, WorkspaceListing
from gdi.contracts.ids import RunId
from gdi.contracts.urls import OWN, WorkspaceUrl
from gdi.kit.problem import ProblemError
from node_gateway import door
from node_gateway.audit import AuditEvent
from node_gateway.auth import Caller
from node_gateway.context import Gateway
from node_gateway.locations import check_path, refused
from node_gateway.workspace.bucket import PAGE
from node_gateway.workspace.declared import DeclaredFiles, DeclaredOutputs, Entry, Shape
from node_gateway.workspace.declared import page as declared_page


def _not_found() -> ProblemError:
    return ProblemError(404, "not-found", "The file does not exist in the workspace.", action="Check the path.")


def router(gateway: Gateway) -> APIRouter:
    routes = APIRouter()
    bucket = gateway.workspace
    outputs = DeclaredFiles(gateway.database)

    def size(exact: int) -> int:
        """As closely as the centre may know it; of open data exactly."""
        return exact if gateway.policy.current().logs == "open" else door.size(exact)

    def stored(e: Entry) -> StoredFile:
        bytes_ = 0 if e.folder else size(e.size)
        return StoredFile(path=e.path, size=bytes_, mtime=float(int(e.mtime)), folder=e.folder)

    async def declared(run: str) -> DeclaredOutputs | None:
        """What may be told of; None where all may: of open data, and where Snakemake runs inside the node."""
        policy = gateway.policy.current()
        return None if policy.logs == "open" or policy.placement == "node" else await outputs.of(run)

    async def key_of(request: Request, caller: Caller, run: str, path: str) -> str:
        try:
            gateway.own_run(caller, run)
            return f"{run}/{check_path(path, str(WorkspaceUrl(run, path)))}"
        except ProblemError as error:
            await gateway.auth.refuse(f"{request.method} {request.url.path}", error, caller)
            raise

    @routes.get("/workspace/{run}")
    async def listing(
        request: Request,
        run: RunId,
        prefix: Annotated[str, Query(max_length=900)] = "",
        page_token: Annotated[str, Query(max_length=2000)] = "",
        page_size: Annotated[int, Query(ge=1, le=PAGE)] = PAGE,
    ) -> WorkspaceListing:
        caller = await gateway.auth.caller(request, "workspace")
        # A prefix may end in the middle of a name or in a slash: it is checked as the path it begins.
        await key_of(request, caller, run, prefix.removesuffix("/") or "all")
        try:
            if (known := await declared(run)) is not None:
                entries, following = await declared_page(bucket, run, known, prefix, page_token, page_size)
                return WorkspaceListing(files=[stored(entry) for entry in entries], next_page_token=following)
            files, following = await bucket.page(f"{run}/{prefix}", page_token, page_size)
        except ValueError as error:
            raise ProblemError(422, "invalid-page-token", f"{error}.", action="Start the listing again.") from None
        own = f"{run}/{OWN}/"
        seen = [
            StoredFile(path=f.key.removeprefix(f"{run}/"), size=size(f.size), mtime=float(int(f.mtime)))
            for f in files
            if not f.key.startswith(own)
        ]
        return WorkspaceListing(files=seen, next_page_token=following)

    @routes.head("/workspace/{run}/{path:path}")
    async def head(request: Request, run: RunId, path: str) -> Response:
        caller = await gateway.auth.caller(request, "workspace")
        key = await key_of(request, caller, run, path)
        known = await declared(run)
        hidden = known is not None and known.shape_of(path) != Shape(path, folder=False)
        hidden = hidden or WorkspaceUrl(run, path).nodes_own
        found = None if hidden else await bucket.head(key)
        if found is None:
            raise _not_found()
        return Response(
            headers={"Content-Length": str(size(found.size)), "Last-Modified": formatdate(found.mtime, usegmt=True)}
        )

    @routes.delete("/workspace/{run}/{path:path}", status_code=204)
    async def delete(request: Request, run: RunId, path: str) -> Response:
        caller = await gateway.auth.caller(request, "workspace")
        key = await key_of(request, caller, run, path)
        if path.split("/")[0] == OWN:
            raise refused(path, "it is where the workflow's own files lie; they go when the workspace goes")
        known = await declared(run)
        shape = known.shape_of(path) if known is not None else None
        if known is not None and (shape is None or shape.path != path):
            raise _not_found()
        await bucket.delete(key)
        if shape is not None and shape.folder:
            await bucket.delete_below(f"{key}/")
        await gateway.audit.record(
            AuditEvent(
                "workspace-delete", True, caller.actor, caller.run, caller.attempt, what=key, workflow=caller.workflow
            )
        )
        return Response(status_code=204)

    return routes
