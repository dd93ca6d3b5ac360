"""A relay that keeps a copy of every byte in both directions: `python -m gdi.local_federation.tap LISTEN_PORT
TARGET_PORT RECORD_PREFIX`. For tests of the border.

Writes PREFIX.in (towards the target) and PREFIX.out (answers), all connections one after the other as they come.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import BinaryIO


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, record: BinaryIO) -> None:
    try:
        while data := await reader.read(65536):
            record.write(data)
            record.flush()
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()
    except OSError:
        writer.close()


async def serve(listen: int, target: int, prefix: str) -> None:
    with Path(prefix + ".in").open("ab") as inward, Path(prefix + ".out").open("ab") as outward:

        async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target)
            except OSError:
                writer.close()
                return
            await asyncio.gather(_copy(reader, far_writer, inward), _copy(far_reader, writer, outward))
            for side in (writer, far_writer):
                side.close()

        server = await asyncio.start_server(on_connection, "127.0.0.1", listen)
        async with server:
            await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
