"""`gdi workflow images`: what comes from a registry is what its digests say, and goes from there to where it runs."""

from __future__ import annotations

import json
import stat
import tarfile
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from gdi.cli.images import command, tools
from gdi.cli.images.layout import INDEXES, BlobDescriptor, ImageError, ImageLayout, digest_of, full_name
from gdi.cli.images.registry import Registry
from gdi.cli.images.root_folder import unpack
from gdi.cli.main import invoke
from tests.support.image_registry import Store, layer, layout, registry

WORKFLOWS, WORKFLOW, IMAGE = Path(__file__).resolve().parents[3] / "workflows", "allele-frequency", "gdi-task:1"


@pytest.mark.parametrize("fault", ["another blob", "longer", "another manifest", "gone", "not signed in", "too much"])
def test_what_is_not_as_its_digest_says_is_not_kept(tmp_path: Path, fault: str) -> None:
    store = Store(("u", "p") if fault == "not signed in" else None)
    body = layer({"bin/x": b"x"})
    top = store.image(body)
    name = f"gdi-task@{top['digest']}"
    if fault == "another blob":
        store.blobs[digest_of(body)] = b"y" * len(body)
    elif fault == "longer":
        store.blobs[digest_of(body)] = body + b"y"
    elif fault == "another manifest":
        store.manifests[top["digest"]] = store.manifests["m"]
    elif fault == "gone":
        del store.blobs[digest_of(body)]
    made = layout(tmp_path / "out", 100 if fault == "too much" else 10**9)
    said = {"not signed in": "--credentials FILE", "gone": "is not there", "too much": "--limit-gb", "longer": "longer"}
    with pytest.raises(ImageError, match=said.get(fault, "digest")):
        registry(store).pull(name, made)
    assert made.names() == {}
    kept = list((tmp_path / "out" / "blobs" / "sha256").iterdir())
    assert all(digest_of(one.read_bytes()) == f"sha256:{one.name}" for one in kept)


def test_an_image_goes_from_one_registry_by_a_folder_to_another(tmp_path: Path) -> None:
    here, there = Store(("u", "p")), Store()
    here.moved = True
    top = here.image(layer({"bin/x": b"x"}), layer({"bin/y": b"y"}))
    made = layout(tmp_path)
    assert registry(here, user=("u", "p")).pull(IMAGE, made).digest == top["digest"]
    assert not [r for r in here.seen if "elsewhere" in r.url.path and "authorization" in r.headers]
    before = len(here.seen)
    registry(here, user=("u", "p")).pull(IMAGE, made)
    assert not [r for r in here.seen[before:] if "/blobs/" in r.url.path], "what is there is not fetched again"
    assert registry(there).push(IMAGE, made) == f"127.0.0.1:5000/gdi-task@{top['digest']}"
    assert there.manifests["1"] == here.manifests["1"] and there.blobs == here.blobs
    (tmp_path / "blobs" / "sha256" / next(iter(here.blobs)).removeprefix("sha256:")).write_bytes(b"rotten")
    with pytest.raises(ImageError, match="export the image again"):
        registry(Store()).push(IMAGE, made)


@pytest.mark.parametrize(
    ("url", "said"), [("http://mirror.example", "is not https"), ("https://u:p@mirror.example", "holds a password")]
)
def test_a_registry_without_tls_or_with_a_password_in_its_url_is_refused(url: str, said: str) -> None:
    with pytest.raises(ImageError, match=said):
        Registry(url)


def test_names_are_those_that_kubernetes_looks_for() -> None:
    assert [full_name(n) for n in ("a:1", "b/a", "ghcr.io/b/a:1", "localhost:5000/a")] == [
        "docker.io/library/a:1",
        "docker.io/b/a:latest",
        "ghcr.io/b/a:1",
        "localhost:5000/a:latest",
    ]


def link(name: str, target: str, kind: bytes) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


@pytest.mark.parametrize(
    "bad",
    [
        layer({"../x": b"x"}),
        layer({"bin/.wh...": b""}),
        layer({}, link("a", "../../secret", tarfile.LNKTYPE)),
        layer({}, link("d", "/", tarfile.SYMTYPE), link("x", "d/etc/hostname", tarfile.LNKTYPE)),
        layer({"d/escaped": b"x"}),
        b"no archive",
    ],
    ids=["name", "whiteout", "link", "link by a link", "through a link", "no archive"],
)
def test_a_layer_that_leaves_its_folder_is_refused_and_nothing_is_left(tmp_path: Path, bad: bytes) -> None:
    store = Store()
    store.image(layer({}, link("d", str(tmp_path), tarfile.SYMTYPE)), bad)
    made = layout(tmp_path / "out")
    registry(store).pull(IMAGE, made)
    with pytest.raises(ImageError, match=r"leaves|cannot be unpacked"):
        unpack(IMAGE, made, tmp_path / "roots", limit=10**6)
    assert list((tmp_path / "roots").iterdir()) == [] and not (tmp_path / "escaped").exists()


def test_layers_become_one_folder_of_the_sandbox(tmp_path: Path) -> None:
    store = Store()
    opaque = {"data/.wh..wh..opq": b"", "data/new": b"n", "opt/bin/.wh.gone": b"", "opt/bin/tool": b"second"}
    store.image(layer({"opt/bin/tool": b"first", "opt/bin/gone": b"g", "data/old": b"o"}), layer(opaque))
    made = layout(tmp_path / "out")
    registry(store).pull(IMAGE, made)
    for _ in range(2):
        entry = unpack(IMAGE, made, tmp_path / "roots", limit=10**6)
    (root,) = map(Path, entry["folders"])
    assert entry == {"match": IMAGE, "folders": [str(root)], "path": f"{root}/opt/bin:{root}/bin"}
    assert sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()) == ["data/new", "opt/bin/tool"]
    tool = root / "opt/bin/tool"
    assert tool.read_bytes() == b"second" and not tool.stat().st_mode & (stat.S_ISUID | stat.S_IWOTH)
    with pytest.raises(ImageError, match="unpacked"):
        unpack(IMAGE, made, tmp_path / "others", limit=3)


def test_the_command_carries_a_workflows_images_by_programs_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def gdi(*arguments: str) -> tuple[int, str]:
        code = invoke(["workflow", *arguments, "--catalogue", str(WORKFLOWS)], Console(width=500))
        return code, capsys.readouterr().out

    store = Store()
    store.image(layer({"bin/x": b"x"}))
    monkeypatch.setattr(command, "Registry", partial(Registry, transport=store.transport))
    assert gdi("images", WORKFLOW) == (0, f"{IMAGE}\n")
    out = str(tmp_path / "out")
    assert gdi("images", WORKFLOW, "--export", out, "--registry", "http://127.0.0.1:5000")[0] == 0
    programs = tmp_path / "bin"
    programs.mkdir()
    archive = tmp_path / "saved.tar"
    (programs / "ctr").write_text(f'#!/bin/sh\n[ "$3" = images ] && [ "$4" = import ] && cat > {archive}\n')
    (programs / "podman").write_text(f'#!/bin/sh\ncp {archive} "$5"\n')
    (programs / "docker").write_text("#!/bin/sh\necho no daemon >&2; exit 3\n")
    for one in programs.iterdir():
        one.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    code, said = gdi("images", WORKFLOW, "--import", out)
    assert code == 0 and "present_images:\n- gdi-task:1" in said
    again = str(tmp_path / "again")
    assert gdi("images", WORKFLOW, "--export", again, "--from", "podman")[0] == 0
    names = {n: d.digest for n, d in ImageLayout(Path(again), limit=0).names().items()}
    assert names == {IMAGE: store_digest(out)}
    for wrong, why in (
        (("--export", again, "--from", "docker"), "docker ended with 3: no daemon"),
        (("--import", str(tmp_path / "empty")), "is no OCI image layout"),
        (("--import", out, "--export", out), "not both"),
        (("--import", out, "--into", "registry"), "Give --registry URL"),
        (("--import", out, "--into", "folder"), "Give --roots FOLDER"),
    ):
        code, said = gdi("images", WORKFLOW, *wrong)
        assert code == 1 and why in said
    (programs / "ctr").write_text("#!/bin/sh\necho no socket; exit 1\n")
    code, said = gdi("images", WORKFLOW, "--import", out)
    assert code == 1 and "ctr ended with 1: no socket" in said


def store_digest(folder: str) -> str:
    return ImageLayout(Path(folder), limit=0).names()[IMAGE].digest


def test_what_is_no_image_of_a_program_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "old.tar"
    with tarfile.open(old, "w") as archive:
        archive.addfile(tarfile.TarInfo("manifest.json"))
    monkeypatch.setitem(tools.SAVE, "docker", ["cp", str(old), "{file}"])
    with pytest.raises(ImageError, match="docker does so since version 25"):
        tools.save("docker", IMAGE, layout(tmp_path / "out"))


def test_an_index_within_an_index_without_end_is_refused(tmp_path: Path) -> None:
    made, below = layout(tmp_path), Store().blob(b"{}", "application/json")
    for _ in range(6):
        body = json.dumps({"manifests": [below]}).encode()
        one = BlobDescriptor.model_validate({"mediaType": INDEXES[0], "digest": digest_of(body), "size": len(body)})
        made.add(one, [body])
        below = one.model_dump(by_alias=True)
    with pytest.raises(ImageError, match="indexes within indexes"):
        list(made.walk(one))
