"""One federation for all end-to-end tests: two nodes, 20-second access tokens, 60-second refresh tokens, logs closed,
borders recorded.
"""

from __future__ import annotations

import gzip
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from gdi.local_federation import cohort
from gdi.local_federation.federation import COHORT, INPUT, PROJECT, Federation
from gdi.local_federation.sda import provision
from tests.federation.driver import Driver
from tests.support import federation_cohorts
from tests.support.federation_cohorts import SPLIT

# Datasets of node-a whose file is bad in a way of its own; each is filled by bad_files().
BAD = {
    "EGAD-MISSING": "node-a",
    "EGAD-TRUNCATED": "node-a",
    "EGAD-NOT-CRYPT4GH": "node-a",
    "EGAD-BROKEN-VCF": "node-a",
    "EGAD-XML": "node-a",
    "EGAD-OTHER": "node-a",
}


VISAS = dict.fromkeys(("EGAD-V-NONE", "EGAD-V-EXPIRED", "EGAD-V-UNTRUSTED", "EGAD-V-FORGED"), "node-a")


@pytest.fixture(scope="session")
def federation() -> Iterator[Federation]:
    work = Path(tempfile.mkdtemp(prefix="gdi-t-"))
    catalogue = work / "catalogue"
    shutil.copytree(PROJECT / "workflows", catalogue)
    shutil.copytree(Path(__file__).parent / "workflows", catalogue, dirs_exist_ok=True)
    federation = Federation(
        work,
        nodes=2,
        access_lifetime=20,
        refresh_lifetime=60,
        workflows=catalogue,
        logs_policy="nobody",
        extra_datasets=BAD | VISAS | SPLIT,
        own_datasets={"node-a": "10.5072/gdi-a", "node-b": "https://doi.org/10.5072/gdi.(b)?v=2"},
        tapped=True,
        record_tokens=work / "issued-tokens",
        slots=1,
        upkeep=False,
    )
    fill_bad_files(federation)
    federation_cohorts.fill(federation)
    with federation:
        federation.start()
        yield federation
    shutil.rmtree(work, ignore_errors=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The figures that tests told by `record_property("figure", …)`: also those of passed tests, and of all workers."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", []):
                if name == "figure" and report.when == "call":
                    terminalreporter.write_line(f"{report.nodeid.rpartition('/')[2]}: {value}")


def fill_bad_files(federation: Federation) -> None:
    """Small files for the datasets in BAD, and the faults by which the archive spoils some of them."""
    archive, work = federation.archive("node-a"), federation.layout.folder("cohort")
    small = work / "small.vcf"
    with gzip.open(COHORT, "rt") as file:
        lines = file.read().splitlines()
    header = [line for line in lines if line.startswith("#")]
    records = lines[len(header) : len(header) + 60]
    small.write_text("\n".join(header + records) + "\n")
    broken = work / "broken.vcf"
    fields = records[10].split("\t")
    broken.write_text(
        "\n".join([*header, *records[:10], "\t".join([*fields[:1], "not-a-position", *fields[2:]]), *records[11:]])
        + "\n"
    )
    for dataset in BAD:
        if dataset == "EGAD-MISSING":
            (archive / dataset).mkdir(parents=True, exist_ok=True)
        else:
            provision.add(archive, dataset, INPUT, broken if dataset == "EGAD-BROKEN-VCF" else small)
    faults = {"EGAD-TRUNCATED": "truncated", "EGAD-NOT-CRYPT4GH": "not-crypt4gh", "EGAD-XML": "xml"}
    (archive / ".faults.yaml").write_text(
        yaml.safe_dump({f"{dataset}/{INPUT}": {"kind": kind} for dataset, kind in faults.items()})
    )


def broken_line() -> int:
    """The number of the line that is broken in EGAD-BROKEN-VCF."""
    with gzip.open(COHORT, "rt") as file:
        return sum(line.startswith("#") for line in file) + 11


@pytest.fixture(scope="session")
def driver(federation: Federation) -> Driver:
    return Driver(federation)


@pytest.fixture(scope="session")
def pooled(federation: Federation) -> dict[cohort.CohortSite, tuple[int, int]]:
    """The counts of the whole cohort by bcftools, outside the federation."""
    return cohort.pooled(COHORT, federation.work / "pooled")
