"""Descriptors of datasets at the gateway: without a good one nothing is served, and `check` says what is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from gdi.kit.problem import ProblemError
from node_gateway import explanation
from node_gateway.descriptors import Descriptors

GOOD = "dataset: {id}\nassembly: GRCh38\nmembership: {membership}\n"


def write(folder: Path, name: str, dataset: str, membership: str = "contract", more: str = "") -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(GOOD.format(id=dataset, membership=membership) + more)


def test_a_dataset_without_membership_is_not_served(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("dataset: DS1\nassembly: GRCh38\n")
    descriptors = Descriptors(tmp_path)
    assert descriptors.of("DS1") is None and "a.yaml: membership" in descriptors.problem
    with pytest.raises(ProblemError) as refused:
        descriptors.required("DS1")
    assert refused.value.slug == "dataset-not-described"


def test_a_mistake_keeps_what_was_good_and_a_file_that_goes_serves_nothing(tmp_path: Path) -> None:
    descriptors = Descriptors(tmp_path / "datasets")
    assert descriptors.of("DS1") is None and descriptors.problem == ""
    write(tmp_path / "datasets", "a.yaml", "DS1")
    assert descriptors.required("DS1").membership == "contract"
    write(tmp_path / "datasets", "a.yaml", "DS1", "open")
    assert descriptors.required("DS1").membership == "contract" and "membership" in descriptors.problem
    (tmp_path / "datasets" / "a.yaml").unlink()
    assert descriptors.of("DS1") is None and descriptors.problem == ""


def test_two_files_of_one_dataset_serve_neither(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", "DS1")
    write(tmp_path, "b.yaml", "DS1", "sensitive")
    descriptors = Descriptors(tmp_path)
    assert descriptors.of("DS1") is None and "a.yaml and b.yaml" in descriptors.problem


def test_the_exact_id_and_then_the_longest_prefix_counts(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", "DS*")
    write(tmp_path, "b.yaml", "DS1*", more="classes: true\n")
    write(tmp_path, "c.yaml", "DS12", "sensitive")
    descriptors = Descriptors(tmp_path)
    assert [descriptors.required(d).dataset for d in ("DS2", "DS1", "DS13", "DS12")] == ["DS*", "DS1*", "DS1*", "DS12"]
    assert descriptors.of("EGAD1") is None


def test_check_says_in_sentences_what_is_allowed_and_what_is_wrong(tmp_path: Path) -> None:
    policy, folder = tmp_path / "policy.yaml", tmp_path / "datasets"
    policy.write_text("images: ['task:*']\nreleases: {kinds: [allele-counts]}\n")
    _, wrong = explanation.check(policy, folder)
    assert wrong == [f"{folder} describes no dataset: nothing is served. Write a descriptor (YAML) for each dataset."]
    write(folder, "a.yaml", "DS1", "sensitive")
    sentences, wrong = explanation.check(policy, folder)
    text = "\n".join(sentences)
    assert wrong == [] and "fewer than 5 people" in text and "Dataset DS1 (GRCh38): each person has a budget" in text
    write(folder, "b.yaml", "DS2", "nobody")
    policy.write_text("flor: 3\n")
    sentences, wrong = explanation.check(policy, folder)
    assert any("policy.yaml" in line and "flor" in line for line in wrong)
    assert any("b.yaml" in line and "membership" in line for line in wrong) and "Dataset DS1" in "\n".join(sentences)
