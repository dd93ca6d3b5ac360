"""The demo: a federated allele-frequency analysis of real genomes, started as a portal would, compared with the pooled
counts.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gdi.contracts.ids import make_run_id
from gdi.local_federation import cohort
from gdi.local_federation.cohort import CohortError, CohortSite
from gdi.local_federation.display import ProgressDisplay
from gdi.local_federation.federation import Federation, versions
from gdi.local_federation.layout import Layout
from gdi.local_federation.newcomer import newcomer
from gdi.local_federation.portal import DemoPortal
from gdi.local_federation.sweep import KEPT, TEMPORARY, tidy
from gdi.releases.allele_counts.merge import COLUMNS

WORKFLOW = "allele-frequency"
FINAL = ("success", "failed")
AT_LEAST = 100  # sites with exact counts in the demo's answer, with its own cohort


class RunFailed(RuntimeError):
    """The analysis did not succeed: which task, what it said."""


@dataclass(frozen=True)
class CountsRow:
    """A row of answer.tsv: AC and AN as (lowest, highest), both ends equal where they are exact; how many nodes told AC
    exactly; whether hardly anybody was called.
    """

    ac: tuple[int, int]
    an: tuple[int, int]
    exact: bool
    nodes: int
    missing: bool

    def holds(self, ac: int, an: int) -> bool:
        """Whether these counts are possible."""
        return self.ac[0] <= ac <= self.ac[1] and self.an[0] <= an <= self.an[1]


@dataclass
class DemoAnswer:
    """`rows` of answer.tsv by site. `wrong` are sites whose pooled counts are not those of the row, or not within its
    intervals; `unlisted` sites that no node lists, and `too_many` those of them that more people carry than the nodes'
    floors allow.
    """

    file: Path
    rows: dict[CohortSite, CountsRow]
    wrong: list[CohortSite] = field(default_factory=list)
    unlisted: list[CohortSite] = field(default_factory=list)
    too_many: list[CohortSite] = field(default_factory=list)

    @property
    def exact(self) -> int:
        return sum(1 for counts in self.rows.values() if counts.exact)

    @property
    def missing(self) -> int:
        return sum(1 for counts in self.rows.values() if counts.missing)

    @property
    def intervals(self) -> int:
        return len(self.rows) - self.exact - self.missing


def read_answer(file: Path) -> DemoAnswer:
    """The columns of `gdi.releases.allele_counts.merge.table`."""
    lines = file.read_text().splitlines()
    if tuple(lines[0].split("\t")) != COLUMNS:
        raise RunFailed(f"{file} has another header than expected: {lines[0]!r}")
    rows: dict[CohortSite, CountsRow] = {}
    for line in lines[1:]:
        row = dict(zip(COLUMNS, line.split("\t"), strict=True))
        site = CohortSite(row["CHROM"], int(row["POS"]), row["REF"], row["ALT"])
        ac, an = (int(row["AC_MIN"]), int(row["AC_MAX"])), (int(row["AN_MIN"]), int(row["AN_MAX"]))
        nodes = int(row["NODES"])
        missing = row["REASON"] == "missing" and not nodes
        rows[site] = CountsRow(ac, an, bool(row["AC"]) and bool(row["AN"]), nodes, missing)
    return DemoAnswer(file, rows)


def compare(answer: DemoAnswer, pooled: dict[CohortSite, tuple[int, int]], layout: Layout) -> DemoAnswer:
    """Compares with the counts that bcftools made of the whole file."""
    most = len(layout.nodes) * 2 * (layout.floor - 1)  # copies of an allele that no node lists
    answer.wrong = [site for site, counts in answer.rows.items() if not counts.holds(*pooled.get(site, (-1, -1)))]
    answer.unlisted = [site for site in pooled if site not in answer.rows]
    answer.too_many = [site for site in answer.unlisted if pooled[site][0] > most]
    return answer


def run(
    federation: Federation,
    *,
    workflow: str = WORKFLOW,
    parameters: dict[str, Any] | None = None,
    user: str = "alice",
    timeout: float = 900,
    show: Callable[[Any], None] | None = None,
    started: Callable[[str, str], None] | None = None,
) -> tuple[str, str]:
    """Grant, ticket, trigger, wait. (dag run id, broker's run id); RunFailed with the reasons where the run did not
    succeed.
    """
    portal = DemoPortal(federation.layout, federation.secrets, user)
    datasets = [federation.layout.dataset(n) for n in federation.layout.nodes]
    grant = portal.grant(workflow, datasets)
    dag_run = portal.start(grant, workflow, {"datasets": datasets, **(parameters or {})})
    broker_run = make_run_id(workflow, dag_run)
    if started is not None:
        started(dag_run, broker_run)
    deadline = time.monotonic() + timeout
    state = ""
    while state not in FINAL:
        if time.monotonic() > deadline:
            raise RunFailed(
                f"the run was not done after {timeout:.0f} s\n" + why(federation, portal, dag_run, broker_run, workflow)
            )
        time.sleep(0.5)
        try:
            state = portal.dag_run(workflow, dag_run)
        except httpx.HTTPError:
            continue
        progress = portal.progress(broker_run) if show is not None else None
        if progress is not None and show is not None:
            show(progress)
    if state != "success":
        raise RunFailed(why(federation, portal, dag_run, broker_run, workflow))
    return dag_run, broker_run


def why(federation: Federation, portal: DemoPortal, dag_run: str, broker_run: str, workflow: str = WORKFLOW) -> str:
    """Which task failed, what it said last, where its log is."""
    lines = []
    for task in portal.task_instances(workflow, dag_run):
        if task["state"] not in ("failed", "upstream_failed") or task["task_id"].startswith("rules."):
            continue  # a rule's task only shows what another one failed of
        index = task.get("map_index", -1)
        where = f"{federation.layout.work}/airflow/logs/dag_id={workflow}/run_id={dag_run}/task_id={task['task_id']}"
        lines.append(f"{task['task_id']}{'' if index < 0 else f'[{index}]'}: {task['state']}")
        if task["state"] == "failed":
            answer = portal.airflow(
                "GET",
                f"/api/v2/dags/{workflow}/dagRuns/{dag_run}/taskInstances/{task['task_id']}/logs/{task['try_number']}",
                params={"map_index": index},
            )
            if answer.is_success:
                lines += [f"  | {error[:500]}" for error in errors_in(answer.json().get("content", []))[-4:]]
            lines.append(f"  log: {where}")
    progress = portal.progress(broker_run)
    if progress is not None and progress.failing is not None:
        lines.append(f"{progress.failing.node}: {progress.failing.reason}")
    return "\n".join(lines) or f"the run failed; Airflow's logs are in {federation.layout.logs}"


def errors_in(log: list[Any]) -> list[str]:
    """What a task's log says at level error: the exceptions' own words where there are any."""
    found = []
    for event in log:
        if isinstance(event, dict) and event.get("level") in ("error", "critical"):
            details = [f"{d.get('exc_type')}: {d.get('exc_value')}" for d in event.get("error_detail") or []]
            found += details or [str(event.get("event", ""))]
    return found


@dataclass
class Options:
    """What `gdi demo` was asked for."""

    vcf: Path
    nodes: int = 2
    token_lifetime: int = 600
    work_dir: Path | None = None
    json_file: Path | None = None
    exit: bool = False
    own_cohort: bool = False
    placement: str = "node"


def run_demo(options: Options, console: Console, until_stopped: Callable[[], None]) -> int:
    """The whole demo; 0 where the answer is right. `until_stopped` blocks while the federation shall stay up."""
    begin = time.monotonic()
    if not options.vcf.is_file():
        raise CohortError(f"{options.vcf} does not exist; give --vcf a VCF or VCF.gz file with genotypes")
    work = (options.work_dir or Path(tempfile.mkdtemp(prefix="gdi-"))).resolve()
    if options.work_dir is None:
        (work / TEMPORARY).touch()
    try:
        return _demo(options, work, console, until_stopped, begin)
    finally:
        if options.work_dir is None:
            tidy(work)
            console.print(
                f"kept: {', '.join(str(work / name) for name in KEPT if (work / name).exists()) or 'nothing'}",
                soft_wrap=True,
            )


def _demo(options: Options, work: Path, console: Console, until_stopped: Callable[[], None], begin: float) -> int:
    federation = Federation(
        work,
        nodes=options.nodes,
        vcf=options.vcf,
        access_lifetime=options.token_lifetime,
        refresh_lifetime=max(60, min(3600, options.token_lifetime * 3)),
        placement=options.placement,
    )
    with federation:
        console.print(f"[dim]work folder {work}, sandboxes by {federation.maker}[/dim]")
        # Before anything starts: a file that cannot be compared is told at once.
        pooled = cohort.pooled(options.vcf, federation.layout.folder("pooled"))
        with console.status("starting the federation") as status:

            def on_change(name: str, state: str) -> None:
                ready = [n for n, row in federation.rows().items() if row["state"] == "ready"]
                status.update(f"starting the federation: {len(ready)} of {len(federation.rows())} parts ready")
                if not console.is_terminal and state == "ready":
                    console.print(f"  {name} ready")

            federation.start(on_change=on_change)
        console.print(
            f"federation of {options.nodes} nodes is up after {federation.seconds['federation started']:.0f} s"
            f" ({len(federation.rows())} processes)"
        )
        run_started = time.monotonic()
        with ProgressDisplay(console) as display:
            dag_run, broker_run = run(federation, show=display.show)
        federation.seconds["analysis"] = time.monotonic() - run_started
        answer = compare(read_answer(federation.layout.results / broker_run / "answer.tsv"), pooled, federation.layout)
        for name in ("answer.tsv", "answer.png"):
            shutil.copyfile(federation.layout.results / broker_run / name, work / name)
        federation.seconds["everything"] = time.monotonic() - begin
        summary = summarise(federation, answer, broker_run, pooled)
        if options.json_file is not None:
            options.json_file.write_text(json.dumps(summary, indent=1) + "\n")
        report(console, federation, answer, summary, dag_run, broker_run)
        right = not answer.wrong and not answer.too_many and (answer.exact >= AT_LEAST or options.own_cohort)
        if not right:
            console.print(
                Text("The answer differs from the pooled counts, or too few sites have exact ones.", "bold red")
            )
        if right and not options.exit:
            console.print("\nThe federation stays up. [bold]Ctrl-C[/bold] stops it.")
            until_stopped()
        return 0 if right else 1


def refreshes(federation: Federation) -> int:
    """How often LS AAI renewed an access token for the user, as it counts itself."""
    answer = httpx.get(
        federation.layout.issuer + "/admin/stats",
        headers={"x-admin-key": federation.secrets.read("aai-admin-key")},
        timeout=10,
        trust_env=False,
    )
    return int(sum(answer.json()["refreshes"].values())) if answer.is_success else -1


def summarise(
    federation: Federation, answer: DemoAnswer, broker_run: str, pooled: dict[CohortSite, tuple[int, int]]
) -> dict[str, Any]:
    """What `--json` leaves. Seconds by stage, memory in bytes."""
    tasks = DemoPortal(federation.layout, federation.secrets).progress(broker_run)
    return {
        "run": broker_run,
        "sites": len(pooled),
        "sites_compared": len(answer.rows),
        "sites_equal_to_pooled": len(answer.rows) - len(answer.wrong),
        "sites_exact": answer.exact,
        "sites_with_intervals": answer.intervals,
        "sites_where_nobody_was_called": answer.missing,
        "sites_unlisted": len(answer.unlisted),
        "nodes": len(federation.layout.nodes),
        "tasks": sum(rule.total for rule in tasks.rules) if tasks else None,
        "refreshes": refreshes(federation),
        "seconds": {k: round(v, 1) for k, v in federation.seconds.items()},
        "peak_memory_bytes": federation.supervisor.peak_memory,
        "versions": (
            versions()
            | {
                "python": sys.version.split()[0],
                "tes": federation.tes_name(),
                "sandbox": str(federation.maker),
            }
        ),
    }


def report(
    console: Console, federation: Federation, answer: DemoAnswer, summary: dict[str, Any], dag_run: str, broker_run: str
) -> None:
    table = Table(title="Allele frequencies, the ten highest", title_justify="left", box=None, pad_edge=False)
    for column in ("CHROM", "POS", "REF", "ALT", "AC", "AN", "AF", "NODES"):
        table.add_column(column, justify="left" if column in ("CHROM", "REF", "ALT") else "right")
    known = sorted(
        ((site, counts) for site, counts in answer.rows.items() if counts.exact and counts.an[0]),
        key=lambda row: -row[1].ac[0] / row[1].an[0],
    )
    for site, counts in known[:10]:
        ac, an = counts.ac[0], counts.an[0]
        place = (site.chrom, str(site.pos), site.ref[:12], site.alt[:12])
        table.add_row(*place, str(ac), str(an), f"{ac / an:.4f}", str(counts.nodes))
    url = federation.layout.url("portal")
    console.print(table)
    right = len(answer.rows) - len(answer.wrong)
    console.print(
        Text(
            f"{right} of {len(answer.rows)} sites agree with bcftools over the pooled file: {answer.exact} exactly,"
            f" {answer.intervals} within an interval, {answer.missing} where nobody was called; {len(answer.unlisted)}"
            " sites are rare at every node and are not listed",
            "bold green" if not answer.wrong and not answer.too_many else "bold red",
        ),
        soft_wrap=True,
    )
    seconds = ", ".join(f"{k} {v:.0f} s" for k, v in summary["seconds"].items())
    console.print(
        f"{summary['tasks']} tasks, {summary['refreshes']} token refreshes, {seconds}, peak memory"
        f" {summary['peak_memory_bytes'] / 1e9:.1f} GB",
        soft_wrap=True,
    )
    console.print(f"the nodes' TES: {summary['versions']['tes']}", soft_wrap=True)
    console.print(f"answer: {federation.layout.work / 'answer.tsv'}", soft_wrap=True)
    console.print(f"plot:   {federation.layout.work / 'answer.png'}", soft_wrap=True)
    console.print(
        f"the run: {url}/runs/{broker_run} (in Airflow:"
        f" {federation.layout.url('airflow')}/dags/{WORKFLOW}/runs/{dag_run})",
        soft_wrap=True,
    )
    console.print()
    newcomer(console, federation.layout, federation.secrets)
