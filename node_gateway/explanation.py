"""Policy and descriptors in plain sentences, for the operator who wrote them (`node-gateway check`)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, islice
from pathlib import Path

from gdi.contracts import data_use
from gdi.contracts.descriptor import Descriptor
from node_gateway.descriptors import Descriptors
from node_gateway.policy import Policy, PolicyError, load
from node_gateway.workflow_policy import ApprovedBy, ApprovedVersion, WorkflowEntry

MOST_LIMITS = 20  # of a heartbeat
MEMBERSHIP = {
    "contract": "results go to users who hold a visa for it, and to their project",
    "public": "results may go to anyone, a Beacon too",
    "sensitive": "each person has a budget of frequencies that may leave; when it is used up, only sites that left"
    " before are answered",
}


def check(policy_file: Path, folder: Path) -> tuple[list[str], list[str]]:
    """(what holds, what is wrong), a sentence each; a mistake names file and field."""
    wrong: list[str] = []
    sentences: list[str] = []
    try:
        sentences += of_policy(load(policy_file))
    except PolicyError as error:
        wrong.append(str(error))
    descriptors = Descriptors(folder)
    wrong += descriptors.problems()
    found = descriptors.all()
    if not found:
        wrong.append(f"{folder} describes no dataset: nothing is served. Write a descriptor (YAML) for each dataset.")
    for descriptor in found:
        sentences += of_descriptor(descriptor)
    return sentences, wrong


def _entry(entry: WorkflowEntry) -> str:
    if isinstance(entry, ApprovedVersion):
        return f"{entry.name} ({entry.digest[:15]}…)"
    return f"what {entry.approved_by} signed" if isinstance(entry, ApprovedBy) else entry


def limits(policy: Policy, described: Sequence[Descriptor] = ()) -> list[str]:
    """What the node does not allow, for the centre and its users: nothing of whom it vetoes. The data use terms of the
    first datasets that are `described` are among it.
    """
    named = len(policy.workflows)
    approved = "No workflow is approved." if not named else f"Only approved workflows run ({named} entries)."
    anything = policy.placement == "coordinator" and not named
    found = [] if anything or "*" in policy.workflows else [approved]
    kinds = _list(policy.releases.kinds)
    found.append(f"Only releases of the kind {kinds} leave." if kinds else "Nothing may leave.")
    found.append(f"No number about fewer than {policy.floor} people leaves.")
    if policy.review or policy.unattested or "*" in policy.workflows:
        found.append("A person looks at each release.")
    veto = policy.veto
    if veto.users or veto.organisations or veto.projects:
        found.append("Some persons, organisations or projects are not served.")
    terms = (f"{one.dataset} may be used for: {data_use.named(one.use)}." for one in described if one.use)
    return [sentence[:255] for sentence in islice(chain(found, terms), MOST_LIMITS)]


def _placement(policy: Policy) -> str:
    if policy.placement == "node":
        return "This node's own agent starts Snakemake, for what it can verify itself (`placement: node`)."
    begin = "The coordinator starts Snakemake, and is believed about user and workflow (`placement: coordinator`): "
    if policy.unattested:
        return begin + "so a person looks at each release, and error classes are closed."
    return begin + f'releases leave without a person because "{policy.accept_unattested}".'


def of_policy(policy: Policy) -> list[str]:
    """What the policy allows."""
    releases = policy.releases
    return [
        _placement(policy),
        f"Tasks may run {_list(policy.images)}." if policy.images else "No task may run: `images` is empty.",
        f"Workflows: {_list([_entry(one) for one in policy.workflows])}."
        if policy.workflows
        else "Every workflow may run here: `workflows` is empty. Name those that you approved.",
        f"A task has at most {policy.max_cpu_cores} CPUs, {policy.max_ram_gb:g} GB of memory and"
        f" {policy.max_disk_gb:g} GB of disk; a run has at most {policy.max_tasks_per_run} tasks.",
        f"Releases of the kind {_list(releases.kinds)} may leave." if releases.kinds else "Nothing may leave.",
        f"No number about fewer than {policy.floor} people leaves, and none says that nobody has something.",
        "Anyone may read what tasks print: for open data only."
        if policy.logs == "open"
        else "Nobody outside the node reads what tasks print.",
        "Of failures the centre reads error classes of named workflows"
        + (", with the line." if policy.error_lines else ", without the line."),
        f"A person looks at every release first: {len(policy.reviewers)} may."
        if policy.review or policy.unattested
        else "Releases leave without a person's look, unless a workflow asks for it.",
        f"Members of the access committee, who see uses and stop runs and people: {_list(policy.committee)}."
        if policy.committee
        else "No access committee sees the uses of this node's data: `committee` is empty.",
        f"Nobody runs here who is {_list([*policy.veto.users, *policy.veto.organisations])}."
        if policy.veto.users or policy.veto.organisations
        else "Nobody is vetoed.",
        f"A run's workspace is emptied {policy.retention_days:g} days after its end."
        if policy.retention_days is not None
        else "Workspaces are never emptied: `retention_days` is not set.",
    ]


def of_descriptor(one: Descriptor) -> list[str]:
    """What may be asked of the dataset, and what is told."""
    name = f"Dataset {one.dataset}" if one.exact else f"Every dataset whose id begins with {one.dataset[:-1]}"
    people = "no epoch's people are known by its descriptor: one epoch of one dataset is answered"
    if one.samples is not None:
        people = f"its people are in {one.samples.file}, column {one.samples.person}"
    elif one.identifiers is not None:
        people = "each sample is one person, named the same in all datasets"
    lines = [
        f"{name} ({one.assembly}): {MEMBERSHIP[one.membership]}.",
        f"{name}: {people}.",
        f"{name}: a site that its files lack is "
        + ("one where everybody has the reference." if one.absent == "reference" else "unknown, not zero."),
    ]
    if one.classes:
        lines.append(f"{name}: numbers of people by genotype leave, where each is at least the floor.")
    if one.zero == "show":
        lines.append(f"{name}: that nobody carries an allele is told.")
    if one.tables_whole:
        lines.append(f"{name}: a cross table leaves whole, or only its columns do, each whole or not at all.")
    if one.kinds:
        lines.append(f"{name}: only releases of the kind {_list(one.kinds)} may be asked for.")
    if one.splits:
        lines.append(
            f"{name}: an epoch is split by {_list(one.splits)}; levels under {one.min_difference} people join `other`."
        )
    for title, sets in (("Variables", one.variable_sets), ("Table", one.tables)):
        lines += [f"{name}: {title.lower()} {key} are {_list(columns)}." for key, columns in sorted(sets.items())]
    if one.filter is not None:
        lines.append(f"{name}: the next epoch counts {one.filter.words}; every other genotype is as if not called.")
    if one.use:
        lines.append(f"{name}: its data use terms are {data_use.named(one.use)}.")
    for overlap in one.overlaps:
        where = f"at {overlap.node}" if overlap.node else "elsewhere"
        lines.append(
            f"{name}: some of its people are in {overlap.dataset} {where} as well: who asks both is told that a sum"
            " counts them twice."
        )
    if one.files:
        lines.append(f"{name}: {len(one.files)} files are described.")
    return lines


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)
