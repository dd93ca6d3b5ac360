"""The fault proxy in front of an S3: its errors are S3's, and it can stand for a bucket of another region."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from tests.support.faults import HOP, Fault, Proxy

CODES = {403: "AccessDenied", 500: "InternalError", 503: "SlowDown"}


def objects(method: str, path: str) -> bool:
    """GET of an object."""
    return method == "GET" and "list-type" not in urlsplit(path).query


def listings(method: str, path: str) -> bool:
    return method == "GET" and "list-type" in urlsplit(path).query


def error(code: str, more: str = "") -> bytes:
    return f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>no</Message>{more}</Error>'.encode()


@dataclass
class S3Proxy(Proxy):
    """`region`: what the bucket's region is; requests signed for another are refused, with S3's hint where `hint`."""

    region: str = ""
    hint: bool = True
    redirect: bool = False  # 301 PermanentRedirect, else 400 AuthorizationHeaderMalformed
    page: bytes | None = None  # what a fault of kind `status` says, as a proxy that is no S3 does

    def _refusal(self, status: int) -> bytes:
        return error(CODES.get(status, "InternalError")) if self.page is None else self.page

    async def _pass_on(
        self, method: str, path: str, headers: dict[str, str], body: bytes, fault: Fault
    ) -> tuple[int, str, bytes]:
        if self.region and f"/{self.region}/s3/aws4_request" not in headers.get("authorization", ""):
            return self._elsewhere(method)
        sent = {k: v for k, v in headers.items() if k not in HOP | {"accept-encoding", "expect"}}
        answer = await self._http.request(method, path, headers=sent, content=body)
        kept = "".join(f"{k}: {v}\r\n" for k, v in answer.headers.items() if k not in HOP)
        if method == "HEAD" and "content-length" in answer.headers:
            kept += f"content-length: {answer.headers['content-length']}\r\n"
        return answer.status_code, kept, answer.content

    def _elsewhere(self, method: str) -> tuple[int, str, bytes]:
        kept = f"x-amz-bucket-region: {self.region}\r\n" if self.hint else ""
        if self.redirect:
            status, content = 301, error("PermanentRedirect")
        else:
            status = 400
            content = error("AuthorizationHeaderMalformed", f"<Region>{self.region}</Region>" if self.hint else "")
        return status, kept, b"" if method == "HEAD" else content
