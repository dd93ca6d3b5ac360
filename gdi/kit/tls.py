"""The certificate authorities that this process trusts, read once: httpx reads them again for each client, which costs
30 ms of CPU every time.
"""

from __future__ import annotations

import ssl
from functools import cache

import httpx


@cache
def authorities() -> ssl.SSLContext:
    """For `verify=`: those of SSL_CERT_FILE or SSL_CERT_DIR where one is set, else certifi's. Shared, so nobody changes
    it.
    """
    return httpx.create_ssl_context()
