"""nginx before the bytes: `auth_request` asks here whether a file may be read, and nginx fetches it from the archive.

`GET /door/s3-encrypted/DATASET/path` on the internal listener, with the TES's own headers and the door's secret, which
only nginx knows: 204 with `X-Archive-Path` and `X-Archive-Authorization` (the user's fresh token). Everything is
checked as for a read through the gateway, the file's first bytes too.
"""

from __future__ import annotations

import hmac

from fastapi import APIRouter, Request
from starlette.responses import Response

from gdi.contracts.sections import Section
from gdi.contracts.urls import SdaUrl
from gdi.kit.problem import ProblemError
from node_gateway.context import Gateway
from node_gateway.data.service import Denied
from node_gateway.locations import sda_file

SECRET_HEADER = "X-Door-Secret"  # noqa: S105  # a header's name
NOTHING = 404


def router(gateway: Gateway, secret: str) -> APIRouter:
    routes = APIRouter()

    @routes.get("/door/{kind}/{name}/{path:path}")
    async def door(request: Request, kind: str, name: str, path: str) -> Response:
        given = request.headers.get(SECRET_HEADER, "")
        if not hmac.compare_digest(given.encode(), secret.encode()) or kind not in ("s3", "s3-encrypted"):
            return Response(status_code=NOTHING)
        scheme, _, capability = request.headers.get("authorization", "").partition(" ")
        method = "HEAD" if request.headers.get("x-original-method") == "HEAD" else "GET"
        try:
            file = sda_file(str(SdaUrl(name, path)))
            if Section.of(file) is not None:  # nginx would fetch the whole file in its stead
                return Response(status_code=403)
            _, download = await gateway.data.open(
                file,
                capability=capability.strip() if scheme.lower() == "bearer" else "",
                public_key=request.headers.get("client-public-key", ""),
                method=method,
            )
        except (Denied, ProblemError):
            return Response(status_code=403)  # nginx then asks the gateway itself, which says why
        await download.close()
        opened = download.answer.request
        headers = {
            "X-Archive-Path": opened.url.raw_path.decode("ascii"),
            "X-Archive-Authorization": opened.headers["authorization"],
            "Cache-Control": "no-store",
        }
        return Response(status_code=204, headers=headers)

    return routes
