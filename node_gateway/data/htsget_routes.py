"""`/reads/DATASET/ID`, `/variants/DATASET/ID` (GA4GH htsget 1.3) and the blocks of their tickets, on the internal
listener: what an `htsget://` URL becomes at the TES.
"""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.responses import JSONResponse, Response

from gdi.contracts.htsget import ENDPOINTS, MEDIA_TYPE, Endpoint, HtsgetError, HtsgetRequest, PostBody
from gdi.contracts.urls import HtsgetUrl, UrlError
from node_gateway.context import Gateway
from node_gateway.data.routes import Streamed, free_stream
from node_gateway.data.service import STATUS, Denied
from node_gateway.data.slices import Slices, request_of
from node_gateway.downloads import SdaRefusal

BLOCKS = "/htsget/blocks"
ERRORS = {400: "InvalidInput", 401: "InvalidAuthentication", 403: "PermissionDenied", 404: "NotFound"}


def router(gateway: Gateway) -> APIRouter:
    routes = APIRouter()
    slices = Slices(gateway.data, gateway.htsget)

    for endpoint in ENDPOINTS:
        _add(routes, gateway, slices, endpoint)

    @routes.get(BLOCKS + "/{word}")
    async def block(request: Request, word: str) -> Response:
        streaming = False
        try:
            await free_stream(gateway.data.streams)
            try:
                known, file, download = await slices.block(word, _capability(request))
                streaming = True
            finally:
                if not streaming:
                    gateway.data.streams.release()
        except Denied as denied:
            return _deny(denied)
        # Funnel takes 206 only, whether or not a range was asked for.
        return Streamed(gateway, gateway.data.stream(known, file, download), download, 206)

    return routes


def _add(routes: APIRouter, gateway: Gateway, slices: Slices, endpoint: Endpoint) -> None:
    @routes.get(f"/{endpoint}/service-info")
    async def info() -> Response:
        try:
            return JSONResponse(await slices.service_info(endpoint))
        except Denied as denied:
            return _deny(denied)
        except SdaRefusal as refused:
            return _deny(Denied(STATUS.get(refused.error_class, 502), refused.error_class, refused.reason))

    @routes.api_route(f"/{endpoint}/{{name}}/{{path:path}}", methods=["GET", "POST"])
    async def ticket(request: Request, name: str, path: str) -> Response:
        post = request.method == "POST"
        try:
            file = _file(endpoint, f"{name}/{path}")
            requests = await _posted(request, endpoint, f"{name}/{path}") if post else []
            found = await slices.ticket(
                file,
                requests or [request_of(endpoint, f"{name}/{path}", request.url.query)],
                capability=_capability(request),
                public_key=request.headers.get("client-public-key", ""),
                address=lambda word: f"{request.base_url}{BLOCKS.removeprefix('/')}/{word}",
                post=post,
            )
        except Denied as denied:
            return _deny(denied)
        return JSONResponse(found, media_type=MEDIA_TYPE)


def _capability(request: Request) -> str:
    """With or without `Bearer`: Funnel sends what follows the `#` of its URL as it is."""
    header = request.headers.get("authorization", "")
    scheme, _, rest = header.partition(" ")
    return rest.strip() if scheme.lower() == "bearer" else header.strip()


def _file(endpoint: Endpoint, id_: str) -> HtsgetUrl:
    try:
        return HtsgetUrl.parse(str(HtsgetUrl(endpoint, id_)))
    except UrlError as error:
        raise Denied(404, "NotFound", f"No file has this id: {error.why}.") from None


async def _posted(request: Request, endpoint: Endpoint, id_: str) -> list[HtsgetRequest]:
    try:
        return PostBody.model_validate_json(await request.body()).requests(endpoint, id_)
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise Denied(400, "InvalidRequest", f"The body is no request of htsget ({where[:100]}).") from None
    except HtsgetError as error:
        raise Denied(400, "InvalidRequest", error.why) from None


def _deny(denied: Denied) -> Response:
    """As the standard has it: `{"htsget": {"error", "message"}}`."""
    error = ERRORS.get(denied.status, denied.error_class)
    message = f"gateway: {denied.error_class}: {denied.reason}"
    return JSONResponse({"htsget": {"error": error, "message": message}}, denied.status, media_type="application/json")
