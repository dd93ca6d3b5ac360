"""`make nightly-workflows FOLDER=…`: published workflows as tasks of a TES, beside the local executor on the same S3.

FOLDER holds what was fetched: each workflow of `tests/cases/snakemake/published.yaml` as a folder of its name, and
`wrappers/VERSION/bio/…` of snakemake-wrappers; `python/`, where it is there, is on the PYTHONPATH of both (pandas,
snakemake-wrapper-utils). Tools come from the machine's PATH. `--only NAME` runs one. With GDI_FUNNEL over real Funnel.

Both runs of a workflow have one working directory and one storage prefix, one after the other, so that paths within
outputs are the same. Prints, for each, rules, jobs, seconds, tasks and how many outputs are equal. Exit code 1 where a
run fails, an output is missing, or differs that is not named as one that holds times.
"""

from __future__ import annotations

import argparse
import fnmatch
import gzip
import hashlib
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gdi.runner.sandbox.python import python_folders, source_folders
from tests.support.bare_rig import FUNNEL, IMAGE, PACKAGES, Bare
from tests.support.tes_kit import FakeAai, FakeGateway, StandIn, World
from tests.support.weed import Weed

ROOT = Path(__file__).parents[3]
LIST = ROOT / "tests/cases/snakemake/published.yaml"
SETTINGS = ("java*", "fonts", "alternatives", "fastqc", "perl")  # of tools; no image is without them
COMMAND = re.compile(rb"^##(GATKCommandLine|bcftools_\w+)=.*\n", re.MULTILINE)
TIMEOUT = 3600.0  # seconds of one run
RULE = re.compile(r"^Finished jobid: \d+ \(Rule: (\w+)\)$", re.MULTILINE)


@dataclass(frozen=True)
class Published:
    """`directory` is where Snakemake is called, below the workflow; `data` what of it goes into the bucket; `files` and
    `config` are the profile; outputs that fit `times` hold times or random names of files, and need only be there.
    """

    name: str
    repository: str
    commit: str
    directory: str
    snakefile: str
    data: list[str]
    files: dict[str, str]
    config: dict[str, Any]
    arguments: list[str]
    times: list[str]

    @classmethod
    def of(cls, entry: dict[str, Any]) -> Published:
        empty: dict[str, Any] = {"data": [], "files": {}, "config": {}, "arguments": [], "times": []}
        return cls(**{**empty, **entry})


@dataclass
class Outcome:
    code: int
    seconds: float
    said: str
    outputs: dict[str, str]

    @property
    def jobs(self) -> Counter[str]:
        """By rule, as Snakemake said that it ran them."""
        return Counter(RULE.findall(self.said))


class Runs:
    def __init__(self, bare: Bare, folder: Path) -> None:
        self.bare, self.folder = bare, folder

    def both(self, one: Published, home: Path) -> tuple[Outcome, Outcome]:
        shutil.copytree(self.folder / one.name, home / one.name, symlinks=True)
        where, prefix = home / one.name / one.directory, self.bare.prefix()
        for name, text in one.files.items():
            (where / name).parent.mkdir(parents=True, exist_ok=True)
            (where / name).write_text(text)
        given = f"{prefix}-given"
        config = yaml.safe_dump(one.config).replace("{given}", given).replace("{here}", str(where))
        (where / "profile.yaml").write_text(config)
        snakefile = str((home / one.name / one.snakefile).resolve())
        how = ["--snakefile", snakefile, *(word.replace("{here}", str(where)) for word in one.arguments)]
        how += ["--wrapper-prefix", f"file://{self.folder}/wrappers/"]
        # Sets of text have one order in both.
        environment = {"PYTHONPATH": str(self.folder / "python"), "PYTHONHASHSEED": "0"}
        found = []
        for tes in (False, True):
            self._fill(one, where, prefix, given)
            began = time.monotonic()
            code, said = (self._tes if tes else self._local)(where, prefix, how, environment)
            seconds = time.monotonic() - began
            found.append(Outcome(code, seconds, said, self._outputs(prefix)))
            self._empty(prefix)
            shutil.rmtree(where / ".snakemake", ignore_errors=True)
        return found[0], found[1]

    def _local(self, where: Path, prefix: str, how: list[str], environment: dict[str, str]) -> tuple[int, str]:
        storage = ["--default-storage-provider", "s3", "--default-storage-prefix", prefix]
        server = ["--storage-s3-endpoint-url", self.bare.weed.endpoint, "--nocolor", "--scheduler", "greedy"]
        words = ["--cores", "2", "--printshellcmds", *storage, *server, *how]
        return self.bare.snakemake(where, words, environment, TIMEOUT)

    def _tes(self, where: Path, prefix: str, how: list[str], environment: dict[str, str]) -> tuple[int, str]:
        words = [*how, "--envvars", *environment]
        return self.bare.run(where, prefix, *words, environment=environment, timeout=TIMEOUT)

    def _fill(self, one: Published, where: Path, prefix: str, given: str) -> None:
        for pattern in one.data:
            source, _, name = pattern.partition(" -> ")
            for path in sorted(where.glob(source)):
                for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
                    self.bare.put(given if name else prefix, name or str(file.relative_to(where)), file.read_bytes())

    def _outputs(self, prefix: str) -> dict[str, str]:
        return {k: content(self.bare.get(prefix, k)) for k in self.bare.files(prefix)}

    def _empty(self, prefix: str) -> None:
        top = prefix.removeprefix(f"s3://{self.bare.weed.bucket}/") + "/"
        for key in self.bare.weed.keys(top):
            self.bare.weed.client.delete_object(Bucket=self.bare.weed.bucket, Key=key)


def content(data: bytes) -> str:
    """A file's SHA-256; of a gzip file that of what is in it (its header holds the time), of a BAM file that without
    the text of its header (which holds commands with random names), of a VCF that without the commands in its header
    (which hold the time).
    """
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    if data[:4] == b"BAM\1":
        data = data[8 + int.from_bytes(data[4:8], "little") :]
    if data.startswith(b"##fileformat=VCF"):
        data = COMMAND.sub(b"", data)
    return hashlib.sha256(data).hexdigest()


def report(one: Published, local: Outcome, tes: Outcome) -> bool:
    """Prints; whether all is as it must be."""
    if local.code or tes.code:
        which, failed = ("local executor", local) if local.code else ("TES", tes)
        print(failed.said[-6000:])
        print(f"{one.name}: FAILED with the {which}")
        return False
    missing = sorted(set(local.outputs) ^ set(tes.outputs))
    other = [k for k, v in local.outputs.items() if k in tes.outputs and tes.outputs[k] != v]
    times = [k for k in other if any(fnmatch.fnmatch(k, pattern) for pattern in one.times)]
    wrong = sorted(set(other) - set(times))
    for name in [*missing, *wrong]:
        print(f"{one.name}: {'not in both' if name in missing else 'differs'}: {name}")
    print(
        f"{one.name} ({one.repository} {one.commit}): {len(tes.jobs)} rules, {sum(tes.jobs.values())} jobs;"
        f" {len(local.outputs)} files, {len(local.outputs) - len(other)} equal, {len(times)} hold times,"
        f" {len(missing) + len(wrong)} wrong; local {local.seconds:.0f} s, TES {tes.seconds:.0f} s"
    )
    return not missing and not wrong


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("folder", type=Path)
    options.add_argument("--only", action="append", default=[])
    given = options.parse_args()
    folder: Path = given.folder.resolve()
    chosen = [Published.of(e) for e in yaml.safe_load(LIST.read_text()) if not given.only or e["name"] in given.only]
    with tempfile.TemporaryDirectory(prefix="published-") as made:
        home = Path(made)
        weed = Weed(home)
        world = World(home, weed, FakeGateway(home, funnel=bool(FUNNEL)), FakeAai())
        tes = server(world, folder)
        try:
            runs = Runs(Bare(tes), folder)
            good = [report(one, *runs.both(one, home)) for one in chosen]
        finally:
            tes.close()
            world.close()
            weed.close()
    return 0 if all(good) and good else 1


def server(world: World, folder: Path) -> StandIn:
    """A TES whose one image has Snakemake, the machine's tools and FOLDER/python."""
    folders = [*(b.source for b in (*python_folders(), *source_folders(*PACKAGES))), folder / "python"]
    folders += [path for pattern in SETTINGS for path in Path("/etc").glob(pattern)]
    path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    if FUNNEL:
        from gdi.runner.sandbox.docker import DriverImage
        from tests.support.funnel_kit import Funnel

        return Funnel(world, Path(FUNNEL), images=[DriverImage(IMAGE, folders, path)])  # type: ignore[return-value]
    return StandIn(world, images=[{"match": "*", "folders": [str(f) for f in folders], "path": path}])


if __name__ == "__main__":
    sys.exit(main())
