"""SeaweedFS: each node's own S3, with a workspace bucket and a release area. Only the node's TES and gateway hold its
keys.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from gdi.kit.secret_files import Secrets, write_private
from gdi.local_federation.layout import Layout
from gdi.local_federation.supervisor import ServiceSpec, http_ok


def workspace_bucket(node: str) -> str:
    return f"{node}-workspace"


def release_bucket(node: str) -> str:
    return f"{node}-release"


def credentials_file(secrets: Secrets, node: str, who: str) -> Path:
    """JSON {"access_key","secret_key"} of `who` (tes, gateway, setup) at a node."""
    file = secrets.folder / f"{node}-s3-{who}.json"
    if not file.exists():
        access, secret = secrets.read(f"{node}-s3-{who}-id", size=12), secrets.read(f"{node}-s3-{who}-secret")
        write_private(file, json.dumps({"access_key": access, "secret_key": secret}))
    return file


def _identity(secrets: Secrets, node: str, who: str, actions: list[str]) -> dict[str, object]:
    keys = json.loads(credentials_file(secrets, node, who).read_text())
    return {
        "name": f"{node}-{who}",
        "credentials": [{"accessKey": keys["access_key"], "secretKey": keys["secret_key"]}],
        "actions": actions,
    }


def _on(bucket: str) -> list[str]:
    return [f"{verb}:{bucket}" for verb in ("Read", "Write", "List")]


def service(layout: Layout, secrets: Secrets, node: str) -> ServiceSpec:
    home = layout.folder("nodes", node, "s3")
    config = write_private(
        secrets.folder / f"{node}-s3-identities.json",
        json.dumps(
            {
                "identities": [
                    _identity(secrets, node, "setup", ["Admin"]),
                    _identity(secrets, node, "tes", _on(workspace_bucket(node))),
                    _identity(secrets, node, "gateway", _on(workspace_bucket(node)) + _on(release_bucket(node))),
                ]
            }
        ),
    )
    weed = shutil.which("weed", path=str(Path(sys.executable).parent)) or "weed"
    port = {
        part: str(layout.ports[f"{node}/s3{part}"])
        for part in ("", "_grpc", "_master", "_master_grpc", "_volume", "_volume_grpc", "_filer", "_filer_grpc")
    }
    argv = [
        weed,
        "-logtostderr",
        "server",
        f"-dir={home}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-master.telemetry=false",
    ]
    argv += [
        "-master.volumeSizeLimitMB=256",
        "-volume.max=50",
        f"-master.port={port['_master']}",
        f"-master.port.grpc={port['_master_grpc']}",
    ]
    argv += [f"-volume.port={port['_volume']}", f"-volume.port.grpc={port['_volume_grpc']}"]
    # The filer would serve every bucket without keys over HTTP; S3 needs only its gRPC.
    argv += ["-filer", "-filer.disableHttp", f"-filer.port={port['_filer']}", f"-filer.port.grpc={port['_filer_grpc']}"]
    argv += [
        f"-filer.localSocket={home / 'filer.sock'}",
        "-s3",
        "-s3.iam=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
    ]
    argv += [f"-s3.port={port['']}", f"-s3.port.grpc={port['_grpc']}", f"-s3.config={config}"]

    def settle() -> None:
        keys = json.loads(credentials_file(secrets, node, "setup").read_text())
        client = boto3.client(
            "s3",
            endpoint_url=layout.url(f"{node}/s3"),
            aws_access_key_id=keys["access_key"],
            aws_secret_access_key=keys["secret_key"],
            region_name="us-east-1",
            config=Config(connect_timeout=2, read_timeout=10, retries={"max_attempts": 0}),
        )
        for bucket in (workspace_bucket(node), release_bucket(node)):
            try:
                client.head_bucket(Bucket=bucket)
            except ClientError:
                client.create_bucket(Bucket=bucket)
            client.put_object(
                Bucket=bucket, Key=".ready", Body=b""
            )  # the first write makes the volumes: done before anyone waits for it
            client.delete_object(Bucket=bucket, Key=".ready")

    # Its orderly end may hang once another of its parts is gone; what it holds is written at once, so a kill loses
    # nothing.
    return ServiceSpec(
        f"{node}-s3",
        argv,
        http_ok(layout.url(f"{node}/s3") + "/healthz"),
        settle=settle,
        stop_signal=signal.SIGKILL,
        orphan_signal=signal.SIGKILL,
    )


def sweep(layout: Layout) -> None:
    """Removes the sockets that SeaweedFS leaves in /tmp, named after its ports."""
    for node in layout.nodes:
        for part in ("", "_grpc", "_master", "_master_grpc", "_volume", "_volume_grpc", "_filer", "_filer_grpc"):
            # where SeaweedFS puts them
            for left in Path("/tmp").glob(f"seaweedfs-*-{layout.ports[f'{node}/s3{part}']}.sock"):  # noqa: S108
                left.unlink(missing_ok=True)
