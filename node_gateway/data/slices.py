"""Reads and variants by htsget for the node's own TES: the archive's ticket, its URLs made this gateway's, and each
block fetched with a fresh token of the user while the run is open.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gdi.contracts.htsget import Block, Endpoint, HtsgetError, HtsgetRequest, parse_target
from gdi.contracts.ids import dataset_name
from gdi.contracts.urls import HtsgetUrl
from node_gateway.data.service import Data, Denied
from node_gateway.downloads import Download
from node_gateway.htsget import HtsgetClient
from node_gateway.tasks.store import Known


@dataclass
class Slices:
    """`client` is None where the node has no htsget server."""

    data: Data
    client: HtsgetClient | None

    def server(self) -> HtsgetClient:
        if self.client is None:
            raise Denied(404, "NotFound", "This node has no htsget server (its operator sets HTSGET_URL).")
        return self.client

    async def service_info(self, endpoint: Endpoint) -> dict[str, Any]:
        """SdaRefusal, Denied."""
        return await self.server().service_info(endpoint)

    async def ticket(
        self,
        file: HtsgetUrl,
        requests: Sequence[HtsgetRequest],
        *,
        capability: str,
        public_key: str,
        address: Callable[[str], str],
        post: bool,
    ) -> dict[str, Any]:
        """`{"htsget": …}` whose URLs are this gateway's: `address` makes one of a sealed block. Denied where the
        capability is not for these slices, this key and now, or the archive does not give them.
        """
        known = await self.data.known(file, capability)
        async with self.data.remembering(known, file):
            client = self.server()
            for one in requests:
                if not _granted(known, one):
                    raise Denied(403, "AccessDenied", f"The capability is for other slices than {one.target[:300]}.")
            token = await self.data.token(known, file.dataset, public_key)
            for one in requests:
                await self._note(known, file.dataset, one.id, token)
            ticket = await client.ticket(requests, token, post=post)
            blocks = []
            for number, block in enumerate(ticket.htsget.urls):
                word = client.sealed(block, id_=requests[0].id, first=number == 0, task=known.number, token=token)
                blocks.append(block if word is None else _rewritten(block, address(word), capability))
        await self.data.read(known, file, f"{'POST' if post else 'GET'} {file} ({len(blocks)} blocks)")
        body = ticket.htsget.model_copy(update={"urls": blocks})
        return {"htsget": body.model_dump(by_alias=True, exclude_none=True)}

    async def _note(self, known: Known, dataset: str, id_: str, token: str) -> None:
        """What the slices' files are now, where the archive lists files of that name: as at a read of the file."""
        name = id_.removeprefix(f"{dataset_name(dataset)}/")
        for one in await self.data.listings.named(known.run, dataset, name, token):
            await self.data.contents.note(dataset, one)

    async def block(self, word: str, capability: str) -> tuple[Known, HtsgetUrl, Download]:
        """The block's open answer. Denied where it is not of a ticket of this capability's, or cannot be had."""
        file = HtsgetUrl("blocks", "of-a-ticket")
        known = await self.data.known(file, capability)
        block = None if self.client is None else self.client.seal.open(word, known.number)
        if block is not None:
            file = HtsgetUrl(*block.id.split("/", 1))
        async with self.data.remembering(known, file):
            client = self.server()
            if block is None:
                raise Denied(403, "AccessDenied", "The block is of no ticket of this task's.")
            return known, file, await client.block(block, await self.data.token(known, file.dataset, None))


def _granted(known: Known, request: HtsgetRequest) -> bool:
    return any(
        parse_target(path).covers(request)
        for dataset, path in known.inputs
        if "?" in path and request.id.startswith(f"{dataset_name(dataset)}/")
    )


def _rewritten(block: Block, url: str, capability: str) -> Block:
    return Block(url=url, headers={"Authorization": f"Bearer {capability}"}, class_=block.class_)


def request_of(endpoint: Endpoint, id_: str, query: str) -> HtsgetRequest:
    """A request as a URL has it. Denied 400, with the standard's name of the error."""
    try:
        return HtsgetRequest.of_query(endpoint, id_, query)
    except HtsgetError as error:
        raise Denied(400, "InvalidRequest", error.why) from None
