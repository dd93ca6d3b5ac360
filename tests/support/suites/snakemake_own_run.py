"""`make nightly-snakemake`: Snakemake's own tests over the executor, beside the local executor on the same S3.

ARGS: `--folder DIR` the unpacked source distribution (default: fetched by `pip download`, the pinned version),
`-k WORD` some of the tests, `--names FILE` those of a list, `--workers N` at once, `--write-list` writes the list of
what the local executor passes. Each part of 40 tests gets a TES of its own: Funnel grows by all that it ever ran.
Prints a line for each part and for each test that differs, and both rates. Exit code 1 below 98 %, or where a test
fails that refused.txt does not name.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

from gdi.runner.sandbox.python import python_folders, source_folders
from tests.support.bare_rig import FUNNEL, IMAGE, PACKAGES
from tests.support.suites.snakemake_own import MODE, WORLD
from tests.support.tes_kit import FakeAai, FakeGateway, StandIn, World
from tests.support.weed import Weed

ROOT = Path(__file__).parents[3]
LIST = ROOT / "tests/cases/snakemake/own-tests.txt"
REFUSED = ROOT / "tests/cases/snakemake/refused.txt"
VERSION = "9.27.1"
WANTED = 0.98
TIMEOUT = 4 * 3600  # seconds of one pass
ONE = 600  # of one test
PART = 40  # tests of one TES


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("--folder", type=Path)
    options.add_argument("-k", default="")
    options.add_argument("--names", type=Path)
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--write-list", action="store_true")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="own-") as made:
        home = Path(made)
        suite = given.folder or fetched(home)
        weed = Weed(home)
        world = World(home, weed, FakeGateway(home, funnel=bool(FUNNEL)), FakeAai())
        try:
            (home / "password").write_text(world.service_password)
            (home / "password").chmod(0o600)
            chosen = listed(given.names or LIST)
            local = passed(suite, written(home, weed, ""), "local", [] if given.write_list else chosen, given)
            if given.write_list:
                LIST.write_text("".join(f"{name}\n" for name in sorted(local)))
            remote = passed_remotely(suite, home, world, sorted(local), given)
        finally:
            world.close()
            weed.close()
    return report(local, remote)


def written(home: Path, weed: Weed, tes: str) -> Path:
    """The papers that Snakemake's tests read: where bucket and TES are."""
    known = {
        "endpoint": weed.endpoint,
        "access": weed.access,
        "secret": weed.secret,
        "bucket": weed.bucket,
        "tes": tes,
        "password_file": str(home / "password"),
        "image": IMAGE,
    }
    papers = home / "world.json"
    papers.write_text(json.dumps(known))
    papers.chmod(0o600)
    return papers


def passed_remotely(suite: Path, home: Path, world: World, names: list[str], given: argparse.Namespace) -> set[str]:
    """Those of `names` that pass as tasks."""
    found: set[str] = set()
    for part in [names[i : i + PART] for i in range(0, len(names), PART)]:
        tes = server(world)
        try:
            good = passed(suite, written(home, world.weed, tes.url), "tes", part, given)
        finally:
            tes.close()
        print(f"{part[0]} to {part[-1]}: {len(good)} of {len(part)}", flush=True)
        found |= good
    return found


def server(world: World) -> StandIn:
    folders = [b.source for b in (*python_folders(), *source_folders(*PACKAGES))]
    path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    if FUNNEL:
        from gdi.runner.sandbox.docker import DriverImage
        from tests.support.funnel_kit import Funnel

        return Funnel(world, Path(FUNNEL), images=[DriverImage(IMAGE, folders, path)])  # type: ignore[return-value]
    return StandIn(world, images=[{"match": "*", "folders": [str(f) for f in folders], "path": path}])


def fetched(home: Path) -> Path:
    """The pinned version's source distribution by pip, unpacked."""
    command = ["pip3", "download", "--no-deps", "--no-binary", "snakemake", f"snakemake=={VERSION}", "-d", str(home)]
    subprocess.run(command, check=True, timeout=900)
    with tarfile.open(next(home.glob("snakemake-*.tar.gz"))) as archive:
        archive.extractall(home / "snakemake", filter="data")
    return next((home / "snakemake").iterdir())


def passed(suite: Path, papers: Path, mode: str, names: list[str], given: argparse.Namespace) -> set[str]:
    """The tests that pass in this mode: all of them, or of `names`."""
    results = papers.with_name(f"{mode}.xml")
    which = [f"tests/tests.py::{name}" for name in names] or ["tests/tests.py"]
    command = [sys.executable, "-m", "pytest", "-v", "--tb=short", "-p", PLUGIN, f"--junitxml={results}"]
    command += ["-n", str(given.workers), "--timeout", str(ONE)]
    environment = {**os.environ, MODE: mode, WORLD: str(papers), "PYTHONPATH": f"{Path(__file__).parent}:{suite}"}
    environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # some tests call `snakemake`
    more = ["-k", given.k] if given.k else []
    subprocess.run([*command, *more, *which], cwd=suite, env=environment, timeout=TIMEOUT, check=False)
    cases = ET.parse(results).getroot().iter("testcase")
    return {str(case.get("name")) for case in cases if not len(case) or case.find("system-out") is case[0]}


def listed(path: Path) -> list[str]:
    """The names in a list: one a line, `#` begins a reason."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [name for line in lines if (name := line.partition("#")[0].strip())]


def report(local: set[str], remote: set[str]) -> int:
    refused, failed = set(listed(REFUSED)), sorted(local - remote)
    for name in failed:
        print(f"differs: {name}{' (refused, see docs/snakemake.md)' if name in refused else ''}")
    rate = len(local & remote) / len(local) if local else 0.0
    print(f"Snakemake {VERSION}: the local executor passes {len(local)} tests, of these the TES passes {rate:.1%}")
    return 0 if rate >= WANTED and set(failed) <= refused else 1


PLUGIN = "snakemake_own"  # by its folder: Snakemake's own package is called `tests` too

if __name__ == "__main__":
    sys.exit(main())
