"""`node-gateway nginx-config`: an nginx that stands between the TES and the gateway, made from the gateway's settings.

The bytes of whole files go past Python: nginx asks the gateway (`auth_request`), and fetches from the archive by
itself. What the gateway refuses, and htsget, it hands to the gateway. TLS towards the archive is verified.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from gdi.kit.settings import SettingsError
from node_gateway.settings import Settings

AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
# Where one listens on all addresses, it is met on this one.
LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104
_PLAIN = re.compile(r"[A-Za-z0-9._:/@%\[\]-]+")
_TEMPLATE = """\
# Made by `node-gateway nginx-config`. Holds a secret: mode 0600.
upstream gdi_gateway {{
    server {gateway};
    keepalive 16;
}}
upstream gdi_archive {{
{servers}
    keepalive 16;
}}
server {{
    listen {listen};
    server_tokens off;
    client_max_body_size 64k;
    large_client_header_buffers 4 64k;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_max_temp_file_size 0;       # a slow reader slows the archive, nothing is kept on disk
    send_timeout {slow}s;             # a reader that takes nothing for so long is cut off
    proxy_read_timeout 60s;

    location ~ ^/(s3|s3-encrypted)/ {{
        auth_request /_door;
        auth_request_set $archive_path $upstream_http_x_archive_path;
        auth_request_set $archive_authorization $upstream_http_x_archive_authorization;
        error_page 401 403 404 500 = @gateway;
        proxy_pass {scheme}://gdi_archive$archive_path;
        proxy_set_header Host {host};
        proxy_set_header Authorization $archive_authorization;
        {key_header}
        proxy_set_header X-C4GH-Public-Key $http_client_public_key;
        proxy_set_header Accept-Encoding identity;
        proxy_set_header Cookie "";
        proxy_hide_header Set-Cookie;
        proxy_next_upstream error timeout http_502 http_503 http_504;{tls}
    }}
    location = /_door {{
        internal;
        proxy_pass http://gdi_gateway/door$request_uri;
        proxy_pass_request_body off;
        proxy_set_header Content-Length "";
        proxy_set_header Connection "";
        proxy_set_header X-Original-Method $request_method;
        proxy_set_header X-Door-Secret "{secret}";
    }}
    location @gateway {{
        proxy_pass http://gdi_gateway;
        proxy_set_header Host $http_host;
        proxy_set_header Connection "";
    }}
    location ~ ^/(reads|variants|htsget/blocks)/ {{
        proxy_pass http://gdi_gateway;
        proxy_set_header Host $http_host;
        proxy_set_header Connection "";
        proxy_buffering off;
    }}
    location / {{
        return 404;
    }}
}}
"""


def config(settings: Settings, listen: str, authorities: Path) -> str:
    """The server's configuration, for inclusion in nginx's `http` block. `listen`: an address of nginx's, such as
    `127.0.0.1:8090`; `authorities`: who may sign the archive's certificate. SettingsError where the gateway's internal
    listener has TLS, or DOOR_SECRET_FILE is not set.
    """
    secret = settings.door_secret()
    if secret is None:
        raise SettingsError("DOOR_SECRET_FILE: set it to a file with a secret that nginx and the gateway share")
    if settings.internal_tls_cert_file is not None:
        raise SettingsError("INTERNAL_TLS_…: nginx speaks to the gateway on the same machine; let nginx have the TLS")
    socket = settings.internal_socket
    host = LOOPBACK.get(settings.internal_host, settings.internal_host)
    gateway = f"unix:{socket.resolve()}" if socket else f"{host}:{settings.internal_port}"
    archives = [urlsplit(url) for url in (settings.sda_url, *settings.sda_other_urls)]
    first = archives[0]
    if {(a.scheme, a.path.rstrip("/")) for a in archives} != {(first.scheme, first.path.rstrip("/"))}:
        raise SettingsError("SDA_OTHER_URLS: behind nginx all servers of the archive have one scheme and path")
    ports = {"http": 80, "https": 443}
    servers = [f"{a.hostname}:{a.port or ports[a.scheme]}" for a in archives]
    for text in (listen, gateway, first.netloc, str(authorities), *servers):
        if not _PLAIN.fullmatch(text):
            raise SettingsError(f"{text[:100]!r} cannot be written into nginx's configuration")
    tls = ""
    if first.scheme == "https":
        lines = ("proxy_ssl_server_name on;", f"proxy_ssl_name {first.hostname};", "proxy_ssl_verify on;")
        tls = "".join(f"\n        {line}" for line in (*lines, f"proxy_ssl_trusted_certificate {authorities};"))
    older = settings.sda_api == "v1"  # v2 takes one header with the key
    return _TEMPLATE.format(
        gateway=gateway,
        servers="\n".join(f"    server {server} max_fails=1 fail_timeout=30s;" for server in servers),
        listen=listen,
        slow=int(settings.slow_reader_seconds),
        scheme=first.scheme,
        host=first.netloc,
        key_header=f"proxy_set_header Client-Public-Key {'$http_client_public_key' if older else chr(34) * 2};",
        tls=tls,
        secret=secret,
    )
