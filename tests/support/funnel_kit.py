"""The real Funnel as the TES under test, in a network namespace of its own, with the sandbox as its container
driver.
"""

from __future__ import annotations

import os
import secrets
import subprocess
from pathlib import Path
from typing import Any

import httpx

from gdi.local_federation.tes import funnel
from gdi.runner.sandbox.docker import DriverImage
from tests.support.processes import die_with_parent, free_ports
from tests.support.tes_kit import IMAGE, ROOT, Tes, World, wait_for


class Funnel(Tes):
    flavour = "funnel"

    def __init__(self, world: World, program: Path, images: list[DriverImage] | None = None) -> None:
        self.world = world
        self.home = world.home / f"f-{secrets.token_hex(3)}"
        (port,) = free_ports(1)
        settings = funnel.FunnelSettings(
            issuer=world.aai.issuer,
            client_id=world.aai.client_id,
            client_secret=world.aai.client_secret,
            audience="tes-audience",
            user="gateway",
            password=world.service_password,
            s3_endpoint=world.weed.endpoint,
            s3_access=world.weed.access,
            s3_secret=world.weed.secret,
            sda_url=f"http://127.0.0.1:{world.gateway.port}",
        )
        self.argv = funnel.prepare(
            self.home,
            program,
            settings,
            images or [DriverImage(IMAGE)],
            listen_port=port,
            key_files=(world.secret_key, world.public_key),
            reach=[world.aai.port, world.weed.port],
        )
        self.url = f"http://127.0.0.1:{port}"
        self.process = self._start()

    def _start(self) -> subprocess.Popen[Any]:
        with (self.home / "log").open("a") as log:
            process = subprocess.Popen(
                self.argv,
                cwd=ROOT,
                stdout=log,
                stderr=log,
                env={"PATH": os.environ["PATH"], "PLANTED": "environment-planted-4711"},
                preexec_fn=die_with_parent,
            )

        def ready() -> bool:
            assert process.poll() is None, self.log()
            try:
                return (
                    httpx.get(
                        self.url + "/ga4gh/tes/v1/service-info", headers=self.world.service(), trust_env=False
                    ).status_code
                    == 200
                )
            except httpx.HTTPError:
                return False

        wait_for("Funnel answers", ready)
        return process
