"""A real Airflow whose components share no disk: each has a folder of its own, and in its mount namespace no other."""

from __future__ import annotations

import json
from pathlib import Path

from cryptography.fernet import Fernet

from gdi.kit.secret_files import write_private
from tests.support.airflow_kit import RealAirflow
from tests.support.s3_server import ACCESS, REGION, SECRET, S3Server

# The component's folder takes the place of all the components' folders, under its own name.
ALONE = """
set -e
mount --bind "$1" "$2"
mount -t tmpfs -o mode=755 tmpfs "$3"
mkdir "$1"
mount --bind "$2" "$1"
shift 3
exec "$@"
"""


class ApartAirflow(RealAirflow):
    """`bucket` of `s3` is the result store. What all see is what an image brings and the kubelet mounts: the catalogue,
    an identity token, the launcher's socket. Needs root.
    """

    def __init__(
        self, folder: Path, environment: dict[str, str], *, s3: S3Server, bucket: str, queue: str, database: str
    ) -> None:
        self.parts = folder / "parts"
        self.parts.mkdir(parents=True)
        self.store = {
            "GDI_RESULT_STORE": f"s3://{bucket}/gdi",
            "GDI_RESULT_STORE_ENDPOINT": s3.url,
            "GDI_RESULT_STORE_REGION": REGION,
        }
        fernet = {"AIRFLOW__CORE__FERNET_KEY": Fernet.generate_key().decode()}  # as a Secret of all components
        quiet = {"GDI_RECURRING_SCHEDULE": "", "GDI_HOUSEKEEPING_SCHEDULE": ""}
        super().__init__(
            folder / "airflow",
            environment,
            executor="CeleryExecutor",
            queue=queue,
            database=database,
            concurrency=1,
            **quiet,
            **fernet,
        )

    def place_of(self, name: str) -> tuple[list[str], dict[str, str], Path]:
        own = self.parts / name
        if not own.exists():
            (own / "home").mkdir(parents=True)
            (self.folder.parent / f"kept-{name}").mkdir()
            write_private(own / "s3-keys.json", json.dumps({"access_key": ACCESS, "secret_key": SECRET}))
            write_private(own / "passwords.json", json.dumps({"admin": "pw"}))
        mine = {
            "HOME": str(own / "home"),
            "AIRFLOW_HOME": str(own / "home"),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(own / "passwords.json"),
            "GDI_RESULTS_DIR": str(own / "results"),
            "GDI_RESULT_STORE_CREDENTIALS_FILE": str(own / "s3-keys.json"),
        }
        alone = ["unshare", "--mount", "--propagation", "private", "sh", "-c", ALONE, "sh"]
        before = [*alone, str(own), str(self.folder.parent / f"kept-{name}"), str(self.parts)]
        return before, {**self.environment, **self.store, **mine}, own

    def made(self, name: str) -> set[str]:
        """What lies in the component's folder of results, by its path there."""
        results = self.parts / name / "results"
        return {str(path.relative_to(results)) for path in results.rglob("*") if path.is_file()}
