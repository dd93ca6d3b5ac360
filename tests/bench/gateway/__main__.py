"""`python -m tests.bench.gateway [PART …]`: downloads, first, tasks, listing, region, kills. One line a figure, beside
its target; exit code 1 where one is short of it. With GDI_FUNNEL tasks and listing are measured before the real Funnel,
too, and judged by that.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.bench.figures import exit_code, figure
from tests.bench.gateway.kills import kills
from tests.bench.gateway.load import ordered
from tests.bench.gateway.region import region
from tests.bench.gateway.rig import floors, key_header, paced_world, settled, spread, started, used
from tests.support.nginx_kit import Nginx

GB = float(os.environ.get("GDI_BENCH_GB", "1"))
AT_ONCE = 16
TASKS, LISTED, WIDTH = 1000, 2000, 16
API = "/ga4gh/tes/v1/tasks"


def downloads() -> bool:
    """Straight from the paced archive, through the gateway, and by nginx."""
    names = [f"file-{n:02}.c4gh" for n in range(AT_ONCE)]
    paths = [f"/s3-encrypted/DS-A/{name}" for name in names]
    good = True
    with paced_world(dict.fromkeys(names, int(GB * 1e9))) as (world, url), tempfile.TemporaryDirectory() as folder:
        user = {"Authorization": "Bearer user-sda", **key_header()}
        straight = ordered("read", urls=[url + p for p in paths], headers=user)
        floor = straight["bytes"] / straight["seconds"]
        figure(f"{AT_ONCE} downloads of {GB:g} GB at once, straight from the paced archive: {floor / 1e6:.1f} MB/s")
        for name, target in (("Python", 0.9), ("nginx", 0.97)):
            nginx = Nginx(Path(folder), world) if name == "nginx" else None
            _, capability = started(world, *names)
            headers = {"Authorization": f"Bearer {capability}", **key_header()}
            assert world.process
            pids = [world.process.pid, *([nginx.process.pid] if nginx else [])]
            settled()
            with used(*pids) as mine:
                base, uds = (nginx.url, "") if nginx else ("http://gateway", str(world.socket))
                got = ordered("read", urls=[base + p for p in paths], headers=headers, uds=uds)
            if nginx:
                nginx.stop()
            assert got["bytes"] == straight["bytes"]
            share = got["bytes"] / got["seconds"] / floor
            good &= figure(f"  by {name}: {share:.3f} of it ({target})", share >= target)
            figure(f"  by {name}: {mine.cpu / got['bytes'] * 1e9:.2f} CPU seconds a GB")
            good &= figure(f"  by {name}: {mine.memory:.0f} MB of memory (200)", mine.memory < 200)
    return good


def first() -> bool:
    """From the request to the first byte of the data: what the gateway adds to the archive's own."""
    with paced_world({"one.c4gh": 1_000_000}) as (world, url):
        _, capability = started(world, "one.c4gh")
        path, user = "/s3-encrypted/DS-A/one.c4gh", {"Authorization": "Bearer user-sda", **key_header()}
        mine = {"Authorization": f"Bearer {capability}", **key_header()}
        straight, through = [], []
        for turn in range(11):  # the first is warm-up
            one = ordered("first", urls=[url + path] * 50, headers=user)["times"]
            other = ordered("first", urls=["http://g" + path] * 50, headers=mine, uds=str(world.socket))["times"]
            if turn:
                straight, through = [*straight, *one], [*through, *other]
    added = (statistics.median(through) - statistics.median(straight)) * 1000
    figure(f"first byte straight from the archive: {spread(straight)}")
    return figure(f"  through the gateway: {spread(through)}; added p50 {added:.1f} ms (5 ms)", added <= 5)


def tasks() -> bool:
    """CreateTask through the gateway beside the same TES by itself, in turns."""
    good = True
    for name, floor in floors().items():
        shares, ours, theirs, cpu = [], [], [], []
        with floor() as (world, url, headers):
            assert world.process
            for _ in range(3):
                run = world.new_run()
                bodies = [run.task() for _ in range(TASKS)]
                to = f"s3://workspace/{run.id}/a.json"
                inside = [{**b, "outputs": [{**b["outputs"][0], "url": to}]} for b in bodies]
                straight = ordered("post", url=url + API, headers=headers, bodies=inside, width=WIDTH)["seconds"]
                token = {"Authorization": f"Bearer {run.token()}"}
                with used(world.process.pid) as mine:
                    through = ordered("post", url=world.url + API, headers=token, bodies=bodies, width=WIDTH)["seconds"]
                shares.append(straight / through)
                ours.append(TASKS / through)
                theirs.append(TASKS / straight)
                cpu.append(mine.cpu / TASKS * 1000)
        share = statistics.median(shares)
        text = f"CreateTask before {name}, {TASKS:,} tasks, {WIDTH} at once: {statistics.median(ours):.0f}/s through"
        text += f" the gateway, {statistics.median(theirs):.0f}/s straight: {share:.2f} of it (0.7);"
        good = figure(f"{text} {statistics.median(cpu):.1f} ms of CPU each at the gateway", share >= 0.7)
    return good


def listing() -> bool:
    """A run's list of tasks through the gateway beside the TES's own, page by page."""
    good = True
    for name, floor in floors().items():
        good = True
        with floor() as (world, url, headers):
            run = world.new_run()
            token = {"Authorization": f"Bearer {run.token()}"}
            bodies = [run.task() for _ in range(LISTED)]
            ordered("post", url=world.url + API, headers=token, bodies=bodies, width=WIDTH)
            for view in ("MINIMAL", "BASIC"):
                query = {"view": view, "page_size": "1000", "tag_key": "gdi-run", "tag_value": run.id}
                straight, through = [], []
                for _ in range(5):
                    one = ordered("get", url=url + API, headers=headers, query=query, times=3)
                    other = ordered("get", url=world.url + API, headers=token, query=query, times=3)
                    assert one["count"] == other["count"] == LISTED, (one["count"], other["count"])
                    straight, through = [*straight, *one["times"]], [*through, *other["times"]]
                alone, ours = statistics.median(straight), statistics.median(through)
                text = f"ListTasks of {LISTED:,} before {name}, {view}: {ours * 1000:.0f} ms, straight"
                text += f" {alone * 1000:.0f} ms: added {(ours / alone - 1) * 100:.0f} % (20 %)"
                good &= figure(text, ours <= 1.2 * alone)
    return good


PARTS: dict[str, Callable[[], bool]] = {
    "downloads": downloads,
    "first": first,
    "tasks": tasks,
    "listing": listing,
    "region": region,
    "kills": kills,
}

if __name__ == "__main__":
    sys.exit(exit_code(PARTS, sys.argv[1:]))
