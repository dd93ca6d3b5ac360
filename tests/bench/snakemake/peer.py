"""Forty short jobs and a gather: ours, the published plugin as it is and without its fixed wait, and the same tasks
sent straight to the TES.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
from kit import Row, Used, environment, good, timed
from rig import Rig, rig

JOBS = 40
SNAKEFILE = """container: "gdi-task:1"
rule all:
    input: "sum.txt"
rule one:
    output: "out/{i}.txt"
    shell: "sleep 0.2; echo {wildcards.i} > {output}"
rule gather:
    input: expand("out/{i}.txt", i=range(40))
    output: "sum.txt"
    shell: "cat {input} > {output}"
"""
PEER = ("snakemake==9.27.1", "snakemake-executor-plugin-tes==0.1.3", "snakemake-storage-plugin-s3")


def rows(folder: Path, *, with_peer: bool) -> list[Row]:
    venv = peer_environment() if with_peer else None
    with rig(open_for=venv) as bare:
        ours_folder = folder / "ours"
        ours_folder.mkdir()
        (ours_folder / "Snakefile").write_text(SNAKEFILE)
        prefix = bare.prefix()
        command = [
            sys.executable,
            "-m",
            "snakemake",
            *bare.arguments(prefix),
            "--jobs",
            "100",
            "--rerun-triggers",
            "mtime",
        ]
        ours = good(timed(command, cwd=ours_folder, log=folder / "ours.log", env=bare.environment(ours_folder)))
        start = good(
            timed(
                [sys.executable, "-m", "snakemake", "--cores", "1", "--dry-run"],
                cwd=_empty(folder),
                log=folder / "start.log",
                env=environment(),
            )
        )
        tasks = bare.of_prefix(prefix)
        straight = asyncio.run(_straight(bare, tasks))
        found = [
            Row(f"{JOBS} jobs of 0.2 s and a gather, ours", ours.wall, "s"),
            Row("the same 41 tasks sent straight to the TES", straight, "s"),
            Row("one start of Snakemake", start.wall, "s"),
            Row("ours against both together", ours.wall / (straight + start.wall), "times", at_most=2),
        ]
        if venv is None:
            return found
        published = _published(bare, folder, venv, wait=40)
        mended = _published(bare, folder, venv, wait=0)
    return [
        *found,
        Row("the published plugin as it is", published.wall, "s"),
        Row(
            "the published plugin without its fixed wait of 40 s",
            mended.wall,
            "s",
            note="init_seconds_before_status_checks=0, patched at run time",
        ),
        Row("faster than the published plugin as it is", published.wall / ours.wall, "times", at_least=8),
        Row("faster than the published plugin without its wait", mended.wall / ours.wall, "times", at_least=4),
    ]


def _empty(folder: Path) -> Path:
    place = folder / "empty"
    place.mkdir()
    (place / "Snakefile").write_text("rule all:\n    input: []\n")
    return place


async def _straight(bare: Rig, tasks: list[dict[str, Any]]) -> float:
    """The same tasks once more, the gather when all others are COMPLETE; asked after by one list in 0.1 s."""
    mark = secrets.token_hex(4)
    bodies = [
        {k: t[k] for k in ("name", "inputs", "outputs", "resources", "executors") if k in t} | {"tags": {"bench": mark}}
        for t in tasks
    ]
    first, last = bodies[:-1], bodies[-1]
    async with httpx.AsyncClient(
        base_url=bare.tes.url + "/ga4gh/tes/v1", headers=bare.tes.world.service(), timeout=60, trust_env=False
    ) as http:

        async def complete(count: int) -> None:
            while True:
                page = (
                    await http.get("/tasks", params={"tag_key": "bench", "tag_value": mark, "page_size": 100})
                ).json()
                states = [t.get("state") for t in page.get("tasks") or []]
                if states.count("COMPLETE") == count:
                    return
                if set(states) & {"EXECUTOR_ERROR", "SYSTEM_ERROR"}:
                    raise SystemExit("a task that was sent straight to the TES failed")
                await asyncio.sleep(0.1)

        began = time.monotonic()
        await asyncio.gather(*(http.post("/tasks", json=b) for b in first))
        await complete(len(first))
        await http.post("/tasks", json=last)
        await complete(len(bodies))
        return time.monotonic() - began


def peer_environment() -> Path:
    """A virtual environment of its own for the published plugin, made once by uv."""
    venv = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gdi-bench" / "peer-0.1.3"
    if not (venv / "made").exists():
        uv = Path(sys.prefix) / "uv" / "bin" / "uv"
        tool = str(uv if uv.exists() else "uv")
        subprocess.run([tool, "venv", "-q", "--clear", "-p", sys.executable, str(venv)], check=True)
        subprocess.run([tool, "pip", "install", "-q", "--python", str(venv / "bin" / "python"), *PEER], check=True)
        # Its tasks install the storage plugin by pip each time; it is in the image, and nothing is fetched from
        # anywhere here: all the quicker for it.
        (venv / "bin" / "pip").unlink(missing_ok=True)
        (venv / "bin" / "pip").write_text("#!/bin/sh\nexit 0\n")
        (venv / "bin" / "pip").chmod(0o755)
        (venv / "made").touch()
    return venv


def _published(bare: Rig, folder: Path, venv: Path, *, wait: int) -> Used:
    """The published plugin: Snakemake inside each task, its S3 keys in each task's command. When a task fails it reads
    `GITHUB_WORKSPACE/funnel.log`.
    """
    place = folder / f"published-{wait}"
    place.mkdir()
    (place / "funnel.log").touch()
    (place / "Snakefile").write_text(SNAKEFILE.replace('container: "gdi-task:1"\n', ""))
    (place / "start.py").write_text(
        "import snakemake_executor_plugin_tes as plugin\n"
        f"plugin.common_settings.init_seconds_before_status_checks = {wait}\n"
        "from snakemake.cli import main\nmain()\n"
    )
    weed, keys = (
        bare.weed,
        {"SNAKEMAKE_STORAGE_S3_ACCESS_KEY": bare.weed.access, "SNAKEMAKE_STORAGE_S3_SECRET_KEY": bare.weed.secret},
    )
    command = [
        *(
            str(venv / "bin" / "python"),
            str(place / "start.py"),
            "--executor",
            "tes",
            "--tes-url",
            f"{bare.tes.url}/ga4gh/tes",
            "--jobs",
            "100",
            "--local-cores",
            "1",
        ),
        *(
            "--default-storage-provider",
            "s3",
            "--default-storage-prefix",
            bare.prefix(),
            "--storage-s3-endpoint-url",
            weed.endpoint,
        ),
        *(
            "--container-image",
            "peer:1",
            "--scheduler",
            "greedy",
            "--nocolor",
            "--default-resources",
            "mem_mb=500",
            "disk_mb=100",
        ),
    ]
    env = environment(
        **keys,
        SNAKEMAKE_TES_USER="gateway",
        SNAKEMAKE_TES_PASSWORD=bare.tes.world.service_password,
        GITHUB_WORKSPACE=str(place),
    ) | {"HOME": str(place), "PATH": f"{venv}/bin:/usr/bin:/bin"}
    used = timed(command, cwd=place, log=folder / f"published-{wait}.log", env=env, timeout=600)
    if used.code != 0:
        said = re.sub("|".join(map(re.escape, keys.values())), "***", used.log.read_text(errors="replace"))
        raise SystemExit(f"the published plugin failed:\n{said[-4000:]}")
    return used
