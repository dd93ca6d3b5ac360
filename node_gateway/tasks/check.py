"""A task against the node's policy and the run's rights: it decides, it changes nothing and asks no one."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from tes.models import Executor, Input, Resources, Task

from gdi.contracts.sections import Section
from gdi.contracts.tes import tags_of
from gdi.contracts.urls import OWN, HtsgetUrl, SdaUrl, WorkspaceUrl
from gdi.kit.problem import ProblemError
from node_gateway.auth import Caller
from node_gateway.locations import check_container_path, htsget_file, refused, sda_file, workspace_file
from node_gateway.policy import Policy
from node_gateway.redaction import looks_secret, redact
from node_gateway.tasks.answer import OWN_TAGS

_SECRET_NAME = re.compile(
    r"token|secret|passw|passphrase|credential|api_?key|access_?key|private_?key|(^|_)auth", re.IGNORECASE
)
_JOB = re.compile(r"[A-Za-z0-9._-]{1,100}")
_TRY = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?")  # a try of the job, and of the platform within it


@dataclass(frozen=True)
class CheckedTask:
    """What the check found: the job's key (a new one where the task has none) and try, the archive files (in the order
    of the inputs; None where an input is no archive file) and the outputs.
    """

    job: str
    try_: str
    archive: tuple[SdaUrl | HtsgetUrl | None, ...]
    workspace_inputs: tuple[WorkspaceUrl | None, ...]
    workspace_outputs: tuple[WorkspaceUrl, ...]


def check(task: Task, caller: Caller, policy: Policy, *, slices: bool = False) -> CheckedTask:
    """`task` is as the edge made it (`TaskBody.task`); `slices`: the archive has an htsget server. ProblemError 403
    where policy or rights forbid, 422 where a tag is missing or wrong.
    """
    if not policy.allows_workflow(caller.workflow, caller.digest):
        detail = f"This node does not allow the workflow {caller.workflow} at {caller.digest[:19]}…."
        raise _forbidden("forbidden-workflow", detail, "Ask the node's operator to allow this version.")
    inputs, outputs = task.inputs or [], task.outputs or []
    for executor in task.executors or []:
        _check_executor(executor, policy)
    _check_resources(task.resources or Resources(), policy)
    for volume in task.volumes or []:
        check_container_path(volume, "volume")
    if max(len(inputs), len(outputs)) > policy.max_inputs:
        detail = (
            f"The task has {len(inputs)} inputs and {len(outputs)} outputs; this node allows"
            f" {policy.max_inputs} of each."
        )
        raise _forbidden("too-many-files", detail, "Split the job.")
    job, try_ = _check_tags(tags_of(task), caller)
    checked = [_check_input(i, caller, slices) for i in inputs]
    files = []
    for output in outputs:
        if output.path_prefix:
            raise _forbidden(
                "forbidden-path", "path_prefix (wildcards in outputs) is not allowed.", "Name each output."
            )
        check_container_path(output.path or "", "output path")
        file = workspace_file(output.url or "", caller.run)
        if file.platforms_own:
            raise refused(output.url or "", "it is where the workflow's own files lie, which no task writes")
        files.append(file)
    return CheckedTask(
        job, try_, tuple(file for file, _ in checked), tuple(inside for _, inside in checked), tuple(files)
    )


def _forbidden(slug: str, detail: str, action: str) -> ProblemError:
    return ProblemError(403, slug, detail, action=action)


def _check_executor(executor: Executor, policy: Policy) -> None:
    if not policy.allows_image(executor.image):
        raise _forbidden(
            "forbidden-image",
            f"This node does not allow the image {redact(executor.image, 255)}.",
            "Use one that its policy allows.",
        )
    for field in ("workdir", "stdin", "stdout", "stderr"):
        value = getattr(executor, field)
        if value is not None:
            check_container_path(value.rstrip("/") if field == "workdir" else value, field)
    for name, value in (executor.env or {}).items():
        if _SECRET_NAME.search(name) or looks_secret(value):
            raise _forbidden(
                "forbidden-environment",
                f"The environment variable {name} looks like a secret.",
                "Tasks need none: rename or remove it.",
            )
    if any(looks_secret(part) for part in executor.command):
        raise _forbidden(
            "forbidden-command", "The command holds something that looks like a token.", "Tasks need none: remove it."
        )


def _check_resources(resources: Resources, policy: Policy) -> None:
    for field, limit in (
        ("cpu_cores", policy.max_cpu_cores),
        ("ram_gb", policy.max_ram_gb),
        ("disk_gb", policy.max_disk_gb),
    ):
        amount = getattr(resources, field)
        if amount is not None and amount > limit:
            raise _forbidden("too-large", f"{field} is {amount:g}; this node allows {limit:g}.", "Ask for less.")
    if resources.backend_parameters_strict and resources.backend_parameters:
        raise ProblemError(  # TES 1.1: such a task is to fail, any other runs without them
            400,
            "unsupported-parameters",
            "This node takes no backend_parameters, and the task insists on its own.",
            action="Leave them out, or set backend_parameters_strict to false.",
        )


def _check_tags(tags: Mapping[str, str], caller: Caller) -> tuple[str, str]:
    own = {"gdi-run": caller.run, "gdi-attempt": str(caller.attempt), "gdi-user": caller.user}
    for name in OWN_TAGS:
        if name in tags and tags[name] != own.get(name):
            raise _forbidden("forbidden-tag", f"The tag {name} is set by the gateway.", "Leave it out.")
    for name, value in tags.items():
        if looks_secret(name) or looks_secret(value):
            raise _forbidden(
                "forbidden-tag", f"The tag {redact(name, 100)} holds something that looks like a token.", "Remove it."
            )
    # A client that knows only TES has no key for its job: each of its tasks is one of its own.
    job, try_ = tags.get("gdi-job", f"task-{secrets.token_hex(12)}"), tags.get("gdi-try", "1")
    if not _JOB.fullmatch(job) or not _TRY.fullmatch(try_):
        detail = "The tag gdi-job must be 1 to 100 of A-Z a-z 0-9 . _ -, and gdi-try a number such as 2 or 2.1."
        raise ProblemError(422, "invalid-tag", detail, action="Set the tags: a job's key must be stable over retries.")
    return job, try_


def _check_input(given: Input, caller: Caller, slices: bool) -> tuple[SdaUrl | HtsgetUrl | None, WorkspaceUrl | None]:
    url, path = given.url, given.path or ""
    check_container_path(path, "input path")
    if given.content is not None:
        if url is not None or given.type != "FILE":
            raise refused(url or path, "an input with content is a file and has no url")
        return None, None
    if url is None:
        raise refused(path, "the input has neither url nor content")
    if not url.startswith(("sda://", "htsget://")):
        own = workspace_file(url, caller.run)
        if own.nodes_own:
            raise refused(url, "it is the node's own, which no task of a run reads")
        return None, own
    file = sda_file(url) if url.startswith("sda://") else htsget_file(url)
    if file.dataset not in caller.datasets:
        detail = f"The dataset {redact(file.dataset, 128)} is not one of this run's datasets at this node."
        raise ProblemError(
            403, "dataset-not-granted", detail, action="Start a run that names the dataset.", dataset=file.dataset
        )
    if isinstance(file, HtsgetUrl):
        if not slices:
            raise refused(url, "this node has no htsget server: read the whole file, sda://DATASET/path")
        if given.type != "FILE":
            raise refused(url, "what htsget gives is a file")
    elif given.type != "FILE" or not file.path.endswith(".c4gh"):
        raise refused(url, "archive inputs are single Crypt4GH files, named ….c4gh")
    elif file.path.split("/")[0] == OWN and Section.of(file) is None:
        raise refused(url, f"below {OWN}/ there are sections only: {OWN}/sections/PLAN/NUMBER/path")
    return file, None
