"""Whether the node does what it is asked: its own policy, the workflow's files, and visas that it verifies itself.
Pure: what was fetched is given. A no has a reason of `gdi.contracts.orders.OrderReason`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from gdi.contracts import approval, cohorts, data_use
from gdi.contracts.descriptor import Descriptor
from gdi.contracts.ids import is_dataset_id
from gdi.contracts.orders import OrderClaims, OrderReason, QuestionClaims
from gdi.contracts.packed_workflow import UnpackedWorkflow
from gdi.contracts.workflow import RESERVED, Workflow
from gdi.kit.jose import TokenError
from gdi.visas.visas import SENTENCES, Passport, Visa
from node_gateway.epochs.admission import OpenEpoch
from node_gateway.node_orders import NodeOrder
from node_gateway.policy import Policy
from node_gateway.workflow_policy import ApprovedBy, ApprovedVersion

AFFILIATION = "AffiliationAndRole"
REASONS: dict[str, OrderReason] = {  # of what came of visas
    "no-visa": "no-visa",
    "expired": "visa-expired",
    "untrusted-issuer": "visa-untrusted",
    "untrusted-source": "visa-untrusted",
    "issuer-unavailable": "visa-issuer-away",
}


class RefusedOrder(Exception):
    """The node says no. `detail` is a sentence that may be told outside."""

    def __init__(self, reason: OrderReason, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Admitted:
    """What runs: `parameters` with the workflow's defaults, and the cohort where one is named; `approved`: a person of
    the node's trust read this version; else every release waits for a person, and metadata is closed. `by`: who.
    """

    parameters: dict[str, Any]
    approved: bool
    by: str


def decide(
    claims: QuestionClaims,
    files: UnpackedWorkflow,
    passport: Passport,
    policy: Policy,
    described: Callable[[str], Descriptor | None],
) -> Admitted:
    """RefusedOrder where one rule says no. `files` are those of `claims.digest` (checked by who fetched them);
    `described`: a dataset as its file says, None where the node serves none such.
    """
    need_placement(policy)
    need_welcome(claims.sub, passport, policy)
    need_unblocked(claims.digest, policy)
    need_same_workflow(claims, files.workflow)
    by = need_approval(claims, files.workflow, policy)
    parameters = need_parameters(claims.parameters, files.workflow)
    need_images(files.workflow, policy)
    need_served(claims.datasets, described)
    need_access(claims, passport)
    need_purpose(claims, lambda dataset: found.use if (found := described(dataset)) else ())
    return Admitted(parameters, approved=by != "*", by=by)


def need_same_analysis(claims: OrderClaims, parameters: dict[str, Any], earlier: Iterable[NodeOrder]) -> dict[str, Any]:
    """The parameters, of the epochs that the earlier analyses of the run were of. The workspace is the run's, and what
    lies there is not made again: so the analyses of a run differ in nothing that their files depend on.
    """
    own = cohorts.chosen(parameters.get(cohorts.PARAMETER))
    for order in earlier:
        numbers = cohorts.chosen(order.parameters.get(cohorts.PARAMETER)).epochs
        parameters = with_cohort(parameters, own.with_epochs(numbers))
        before = (order.user, order.digest, sorted(order.datasets), order.parameters)
        if (claims.sub, claims.digest, sorted(claims.datasets), parameters) != before:
            raise RefusedOrder(
                "order-differs",
                f"Attempt {order.attempt} of this run was of other datasets or parameters here: start a new run.",
            )
    return parameters


def with_cohort(parameters: dict[str, Any], cohort: cohorts.CohortChoice) -> dict[str, Any]:
    others = {name: value for name, value in parameters.items() if name != cohorts.PARAMETER}
    return {**others, **({cohorts.PARAMETER: cohort.written} if cohort.written else {})}


def need_placement(policy: Policy) -> None:
    if policy.placement != "node":
        raise RefusedOrder("placement", "This node's policy leaves Snakemake to the coordinator.")


def need_welcome(user: str, passport: Passport, policy: Policy) -> None:
    """The node's veto over what the centre approved. It is of a person, by whichever of their identities they come."""
    people = {user, *passport.people}
    if not people.isdisjoint(policy.veto.users):
        raise RefusedOrder("user-vetoed", "This node does not serve this user.")
    homes = {_domain(v.value) for v in passport.visas if v.type == AFFILIATION} - {""}
    if policy.veto.organisations and not homes:  # else who leaves the visa out is served
        raise RefusedOrder(
            "organisation-vetoed",
            "This node vetoes organisations, and no AffiliationAndRole visa says which one is this user's.",
        )
    domains = {*map(_domain, people), *homes}
    if domains & {name.lower() for name in policy.veto.organisations}:
        raise RefusedOrder("organisation-vetoed", "This node does not serve this user's organisation.")
    projects = {v.value for v in passport.visas if v.type in policy.veto.project_visas}
    if policy.veto.projects and not projects:
        raise RefusedOrder("project-vetoed", "This node vetoes projects, and no visa says which one this is.")
    if projects & set(policy.veto.projects):
        raise RefusedOrder("project-vetoed", "This node does not serve this project.")


def need_unblocked(digest: str, policy: Policy) -> None:
    if digest in policy.blocked:
        raise RefusedOrder("workflow-blocked", "This node blocks this version of the workflow.")


def need_same_workflow(claims: QuestionClaims, workflow: Workflow) -> None:
    """What the files say of themselves is what was asked for."""
    if workflow.name != claims.workflow or (claims.version and workflow.version != claims.version):
        raise RefusedOrder("workflow-files", "The files are those of another workflow or version.")


def need_approval(claims: QuestionClaims, workflow: Workflow, policy: Policy) -> str:
    """Who approved it: `policy`, reviewers' ids, or `*` where the policy takes any workflow."""
    entries = policy.workflows
    for entry in entries:
        if isinstance(entry, ApprovedVersion) and (entry.name, entry.digest) == (claims.workflow, claims.digest):
            return "policy"
    if f"{claims.workflow}@{claims.digest}" in entries:
        return "policy"
    named = _named(policy)
    signers = sorted(_signers(claims, workflow, policy, named)) if named else []
    if signers and _enough(signers, policy):
        return ", ".join(signers)
    if "*" in entries:
        return "*"
    need = f"; it has {len(signers)} of the {policy.signatures} signatures that this node asks for" if named else ""
    raise RefusedOrder("workflow-not-approved", f"This node has not approved this version of the workflow{need}.")


def need_parameters(given: dict[str, Any], workflow: Workflow) -> dict[str, Any]:
    """With defaults. A text that may hold anything is no parameter: a command would be one."""
    known = {name: value for name, value in given.items() if name in workflow.parameters}
    need_declared(given, workflow)
    if loose := approval.loose_parameters(workflow):
        raise RefusedOrder("parameters", f"The workflow's parameter {loose[0]} may be any text.")
    if workflow.check_parameters(known):
        raise RefusedOrder("parameters", "The parameters do not fit the workflow's schema.")
    defaults = {name: schema["default"] for name, schema in workflow.parameters.items() if "default" in schema}
    return with_cohort({**defaults, **known}, need_cohort(given, workflow))


def need_cohort(given: dict[str, Any], workflow: Workflow) -> cohorts.CohortChoice:
    """Whose numbers the run asks for: one that the workflow can analyse. Whether it is open here is asked beside."""
    if mistakes := workflow.check_cohort(given.get(cohorts.PARAMETER)):
        raise RefusedOrder("parameters", f"{mistakes[0]}.")
    return cohorts.chosen(given.get(cohorts.PARAMETER))


def need_filters(workflow: Workflow, epochs: Iterable[OpenEpoch]) -> None:
    """A workflow that reads genotypes leaves out those that the epochs' filters leave out."""
    if filtered := [one for one in epochs if one.filtered and not workflow.filters]:
        one = filtered[0]
        raise RefusedOrder(
            "not-open",
            f"Epoch {one.number} of {one.dataset} counts some genotypes only, and {workflow.name} knows no filters.",
        )


def need_images(workflow: Workflow, policy: Policy) -> None:
    """Each image that the workflow says it needs is allowed here, and is here where the node can fetch none."""
    for image in workflow.needs.images:
        if not policy.allows_image(image):
            raise RefusedOrder("not-open", f"This node does not allow the workflow's image {image[:255]}.")
        if not policy.has_image(image):
            raise RefusedOrder(
                "not-open",
                f"The workflow's image {image[:255]} is missing at this node. Its operator brings it by gdi workflow"
                f" images {workflow.name}, --export and --import.",
            )


def need_declared(given: dict[str, Any], workflow: Workflow) -> None:
    if strange := sorted(set(given) - set(workflow.parameters) - set(RESERVED)):
        raise RefusedOrder("parameters", f"The workflow declares no parameter {strange[0][:60]!r}.")


def need_served(datasets: Sequence[str], described: Callable[[str], Descriptor | None]) -> None:
    """At least one dataset, and each is one that this node serves."""
    if not datasets:
        raise RefusedOrder("dataset-unknown", "The order names no dataset.")
    for dataset in datasets:
        if not is_dataset_id(dataset) or described(dataset) is None:
            raise RefusedOrder("dataset-unknown", f"This node does not serve {dataset[:128]}.")


def need_purpose(claims: QuestionClaims, use: Callable[[str], Sequence[str]]) -> None:
    """What the run states as its purpose is within the data use terms (DUO codes) of each dataset: `use` has them."""
    try:
        stated = data_use.purposes(claims.parameters.get(data_use.PARAMETER))
    except data_use.WrongPurposeError as error:
        raise RefusedOrder("parameters", f"{error}.") from None
    for dataset in claims.datasets:
        if why := data_use.why_not(use(dataset), stated):
            raise RefusedOrder(
                "parameters",
                f"{dataset} may not be used for the purpose that the run states: {why}. Start without this dataset, or"
                " ask its access committee.",
            )


def need_access(claims: QuestionClaims, passport: Passport) -> None:
    """A visa in force for each dataset."""
    for dataset in claims.datasets:
        found = passport.access(dataset)
        if not isinstance(found, Visa):
            reason = REASONS.get(found, "visa-invalid")
            raise RefusedOrder(reason, f"{dataset}: {SENTENCES.get(found, found)}.")


def _named(policy: Policy) -> set[str]:
    return {entry.approved_by for entry in policy.workflows if isinstance(entry, ApprovedBy)}


def _enough(signers: Sequence[str], policy: Policy) -> bool:
    return len(signers) >= policy.signatures


def _signers(claims: QuestionClaims, workflow: Workflow, policy: Policy, named: set[str]) -> set[str]:
    found = set()
    for approver in policy.approvers:
        if approver.id not in named:
            continue
        wanted = approval.claims_for(workflow, claims.digest, "")
        keys = approver.keys_for(claims.workflow)
        if any(_signed(token, approver.id, key, wanted) for key in keys for token in claims.approvals):
            found.add(approver.id)
    return found


def _signed(token: str, key_id: str, key: dict[str, Any], wanted: approval.ApprovalClaims) -> bool:
    try:
        approval.check(token, key_id, key, wanted)
    except TokenError:
        return False
    return True


def _domain(text: str) -> str:
    return text.rpartition("@")[2].lower() if "@" in text else ""
