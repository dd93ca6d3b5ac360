"""Names: no two unrelated classes of one name, and nouns of the field instead of participles."""

import ast
import subprocess
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[3]
# One role in each product, or a name that a framework looks for.
ROLES = {"Audit", "DatabaseSettings", "Health", "Metrics", "Settings", "TokenSource", "_Server"}
REQUIRED = {"StorageObject", "StorageProvider"}  # by Snakemake's storage interface
PARTICIPLES = {"asked", "begun", "held", "meant", "said", "told"}


def product() -> dict[Path, ast.Module]:
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True)
    files = [Path(line) for line in listed.stdout.splitlines()]
    mine = [f for f in files if f.parts[0] not in {"tests", "packaging", "workflows"} and (ROOT / f).is_file()]
    assert len(mine) > 300
    return {f: ast.parse((ROOT / f).read_text()) for f in mine}


def names(tree: ast.AST) -> set[str]:
    """Names that a file gives: variables, arguments, attributes, functions, classes."""
    given = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            given.add(node.id if isinstance(node, ast.Name) else node.attr)
        elif isinstance(node, ast.arg):
            given.add(node.arg)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            given.add(node.name)
    return given


def test_a_class_name_means_one_thing() -> None:
    places = defaultdict(list)
    for file, tree in product().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(str(file))
    assert {n: f for n, f in places.items() if len(f) > 1 and n not in ROLES | REQUIRED} == {}


def test_names_are_nouns() -> None:
    wrong = {str(f): sorted(n for n in names(t) if n.strip("_").lower() in PARTICIPLES) for f, t in product().items()}
    assert {f: n for f, n in wrong.items() if n} == {}
