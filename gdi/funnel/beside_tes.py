"""`python -m gdi.funnel.beside_tes PORT URL [CERTIFICATES]`: runs beside a TES worker and gives it the gateway's
internal listener on the pod's own loopback.

Funnel can show no client certificate and loses parts of what it reads (gdi/funnel/crypt4gh_proxy.py): this does both
for it. CERTIFICATES is a folder with `tls.crt`, `tls.key` (this side's) and `ca.crt` (whose certificate the gateway
must have), as cert-manager writes them. The environment's `C4GH_SECRET_KEY` is the file of Funnel's own key.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import ssl
import sys
from pathlib import Path

from gdi.funnel import crypt4gh, crypt4gh_proxy


def tls(folder: Path) -> ssl.SSLContext:
    """The gateway's authority and our certificate. OSError, ssl.SSLError where a file is missing or wrong."""
    context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    return context


async def relay(port: int, url: str, certificates: Path | None) -> None:
    """Until SIGTERM, which comes when the worker beside it has ended."""
    key = crypt4gh.Key.load(Path(file)) if (file := os.environ.get("C4GH_SECRET_KEY")) else None
    server = await crypt4gh_proxy.serve(
        port, crypt4gh_proxy.Upstream(url, None if certificates is None else tls(certificates)), key
    )
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await ended.wait()
    await crypt4gh_proxy.stop(server)


def main() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    match sys.argv[1:]:
        case [port, url]:
            asyncio.run(relay(int(port), url, None))
        case [port, url, certificates]:
            try:
                asyncio.run(relay(int(port), url, Path(certificates)))
            except (OSError, ssl.SSLError) as error:
                sys.exit(f"{certificates}: tls.crt, tls.key and ca.crt cannot be used: {error}")
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
