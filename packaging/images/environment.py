"""Runs in the build stages: `environment.py tools`, `dependencies TARGET`, `code`. Makes /opt/gdi of the one lock, and
our own packages for each target.

A target's dependencies are the names that its extra resolves to, each installed as requirements.lock says, hashes
included: resolving can leave something out, never bring in what is not locked.
"""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

BUILD = Path("/build")
TOOLS = Path("/opt/tools")
HOME = Path("/opt/gdi")
CODE = Path("/code")
SECRETS = Path("/run/secrets")
# Our packages in each target's image: what it does not run, it does not hold.
_SHARED = ["gdi.kit", "gdi.contracts", "gdi.broker_client"]
_SNAKEMAKE = [*_SHARED, "snakemake_tes_auth", "snakemake_storage_plugin_sda"]
PACKAGES = {
    "broker": [*_SHARED, "gdi.oauth", "gdi.visas", "gdi.result_store", "token_broker"],
    "portal": [*_SHARED, "gdi.oauth", "gdi.portal"],
    "node": [*_SHARED, "gdi.oauth", "gdi.funnel", "gdi.pods", "gdi.releases", "gdi.visas", "node_gateway"],
    "snakemake": [*_SNAKEMAKE, "snakemake_executor_plugin_tes_auth", "snakemake_logger_plugin_airflow"],
    "task": _SNAKEMAKE,
    "airflow": [*_SHARED, "gdi.releases", "gdi.pods", "gdi.result_store", "gdi_operators"],
}
# Modules of those packages for which an image lacks the library: py-tes is where tasks are made.
LEFT_OUT = {"broker": ["gdi/contracts/tes.py"], "portal": ["gdi/contracts/tes.py"], "airflow": ["gdi/contracts/tes.py"]}
# The extra of a target where it is not named like it.
EXTRAS = {"airflow": "airflow-production"}
# What py-tes asks for and never imports: its own documentation's and tests' tools.
UNWANTED = ["pytest", "sphinx-rtd-theme"]
# Taken out of dependencies, relative to site-packages: {pattern: what stays}. Tests nobody runs, sources of what is
# compiled, solvers of other machines, cloud services that are not S3.
PRUNED: dict[str, set[str]] = {
    "**/tests": set(),
    "sqlalchemy/testing": set(),
    "alembic/testing": set(),
    "mako/testing": set(),
    "jsonschema/benchmarks": set(),
    "**/*.pyx": set(),
    "botocore/data/*": {
        "s3",
        "sts",
        "endpoints.json",
        "partitions.json",
        "_retry.json",
        "sdk-default-configuration.json",
    },
    "pulp/solverdir/cbc/*": {"linux"},
    "pulp/solverdir/cbc/linux/*": {{"x86_64": "i64", "aarch64": "arm64"}.get(os.uname().machine, "i64")},
}


def run(*command: str | Path, **environment: str) -> str:
    authorities = (
        {name: str(SECRETS / "ca") for name in ("SSL_CERT_FILE", "PIP_CERT")} if (SECRETS / "ca").exists() else {}
    )
    uv_settings = {"UV_CONFIG_FILE": str(SECRETS / "uv.toml")} if (SECRETS / "uv.toml").exists() else {}
    environment = {
        **os.environ,
        "UV_LINK_MODE": "copy",
        "UV_PYTHON_DOWNLOADS": "never",
        **authorities,
        **uv_settings,
        **environment,
    }
    done = subprocess.run(
        [str(part) for part in command], cwd=BUILD, env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        print(done.stdout[-3000:])
        sys.exit(
            f"{' '.join(str(part) for part in command[:5])} … failed with exit code {done.returncode}; the lines above"
            " say why"
        )
    return done.stdout


def tools() -> None:
    """uv and hatchling in an environment of their own."""
    run(sys.executable, "-m", "venv", TOOLS)
    pip_settings = {"PIP_CONFIG_FILE": str(SECRETS / "pip.conf")} if (SECRETS / "pip.conf").exists() else {}
    run(
        TOOLS / "bin/python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-cache-dir",
        "--require-hashes",
        "-r",
        BUILD / "images/requirements.lock",
        **pip_settings,
    )


def locked(lock: str, names: set[str]) -> str:
    """The entries of these packages (normalised names), hashes and markers as they are. ValueError for one that the
    lock does not have.
    """
    entries = re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE)
    by_name: dict[str, list[str]] = {}
    for entry in entries:
        if found := re.match(r"([A-Za-z0-9._-]+)==", entry):
            by_name.setdefault(normalised(found[1]), []).append(entry)
    if absent := names - set(by_name):
        raise ValueError(
            f"requirements.lock lacks {', '.join(sorted(absent))}: make the lock again from pyproject.toml"
        )
    return "".join(entry for name in sorted(names) for entry in by_name[name])


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def dependencies(target: str) -> None:
    """/opt/gdi: an environment on the base image's own Python, with nothing in it but the target's dependencies. Prints
    its size.
    """
    uv, lock = TOOLS / "bin/uv", BUILD / "requirements.lock"
    python = Path(os.path.realpath(shutil.which("python3") or sys.executable))
    overrides = BUILD / "overrides.txt"
    overrides.write_text(
        "".join(f"{name} ; python_version < '3'\n" for name in UNWANTED)
    )  # never: leaves out what only they need, too
    plain = ["--quiet", "--override", str(overrides), "--no-annotate", "--no-header", "--no-emit-index-url"]
    resolved = run(
        uv,
        "pip",
        "compile",
        *plain,
        "--python",
        python,
        "--extra",
        EXTRAS.get(target, target),
        "--constraint",
        lock,
        "pyproject.toml",
    )
    names = {normalised(line.split("==")[0]) for line in resolved.splitlines() if "==" in line}
    subset = BUILD / f"{target}.lock"
    subset.write_text(locked(lock.read_text(), names))
    run(uv, "venv", "--quiet", "--python", python, HOME)
    site = next(HOME.glob("lib/python3.*/site-packages"))
    run(uv, "pip", "install", "--quiet", "--python", HOME / "bin/python", "--no-deps", "--require-hashes", "-r", subset)
    for pattern, kept in PRUNED.items():
        for path in sorted(site.glob(pattern)):
            if path.name not in kept and path.exists():
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    # Start-up is where a pod's seconds go, and the file system is read-only there. Checked by nothing at run time:
    # layers keep the sources they were made of.
    run(
        python,
        "-m",
        "compileall",
        "-q",
        "-j",
        "0",
        "--invalidation-mode",
        "unchecked-hash",
        "-s",
        HOME,
        "-p",
        HOME,
        site,
    )
    for pattern in ("bin/activate*", "bin/deactivate*", "bin/pydoc*", ".lock", ".gitignore"):
        for path in HOME.glob(pattern):
            path.unlink()
    print(f"{target}: {len(names)} packages, {sum(p.lstat().st_size for p in HOME.rglob('*')) / 1e6:.0f} MB in {HOME}")


def code() -> None:
    """/code/TARGET: our packages of each target, laid out to be copied over /opt/gdi, with the distribution's metadata
    (entry points, version).
    """
    run(TOOLS / "bin/python", "-m", "hatchling", "build", "-t", "wheel", "-d", BUILD / "dist")
    (wheel,) = (BUILD / "dist").glob("*.whl")
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    for target, packages in PACKAGES.items():
        site = CODE / target / "lib" / version / "site-packages"
        run(TOOLS / "bin/uv", "pip", "install", "--quiet", "--no-deps", "--offline", "--target", site, wheel)
        folders = [site.joinpath(*name.split(".")) for name in packages]
        if absent := [str(folder.relative_to(site)) for folder in folders if not folder.is_dir()]:
            sys.exit(f"the wheel lacks {', '.join(absent)}, which the image {target} needs")
        for path in [*site.iterdir(), *(site / "gdi").iterdir()]:
            if path not in folders and path != site / "gdi" and not path.name.endswith(".dist-info"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        for module in LEFT_OUT.get(target, []):
            (site / module).unlink()
        metadata = next(site.glob("*.dist-info"))
        keep_entry_points(metadata / "entry_points.txt", packages)
        for name in ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json"):
            (metadata / name).unlink(missing_ok=True)
        run(
            sys.executable,
            "-m",
            "compileall",
            "-q",
            "--invalidation-mode",
            "unchecked-hash",
            "-s",
            CODE / target,
            "-p",
            HOME,
            site,
        )


def keep_entry_points(file: Path, packages: list[str]) -> None:
    """Leaves the entry points whose module is in `packages`; no file where none is."""
    points = configparser.ConfigParser(delimiters=("=",))
    points.optionxform = str  # type: ignore[assignment,method-assign]
    points.read_string(file.read_text())
    for group in points.sections():
        for name, value in points.items(group):
            if not any(f"{value.partition(':')[0]}.".startswith(f"{package}.") for package in packages):
                points.remove_option(group, name)
        if not points.options(group):
            points.remove_section(group)
    if not points.sections():
        file.unlink()
        return
    with file.open("w") as out:
        points.write(out)


def main() -> None:
    match sys.argv[1:]:
        case ["tools"]:
            tools()
        case ["dependencies", target] if target in PACKAGES:
            dependencies(target)
        case ["code"]:
            code()
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
