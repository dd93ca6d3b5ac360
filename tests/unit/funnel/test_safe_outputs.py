"""A task's folders before Funnel stores them: what is no plain file or folder is gone, and nothing else."""

from __future__ import annotations

from pathlib import Path

from gdi.funnel.safe_outputs import make_plain


def test_a_link_to_a_folder_is_removed_and_not_entered(tmp_path: Path) -> None:
    folder = tmp_path / "work/d"
    (folder / "s").mkdir(parents=True)
    (folder / "s/f").write_text("x")
    (folder / "a b%20c+d").write_text("y")
    (folder / "l").symlink_to("s/f")
    (folder / "t").symlink_to("s")
    assert make_plain(tmp_path, [tmp_path / "work"]) == 1
    found = sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))
    assert found == ["a b%20c+d", "l", "s", "s/f"] and (folder / "l").read_text() == "x"
    assert not (folder / "l").is_symlink()
