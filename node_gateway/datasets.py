"""`GET /datasets`, `HEAD /datasets/{name}/{path}` (an input's size and time by the archive's own listing, asked as the
user; never its content; `name` is the dataset's, `ids.dataset_name`) and `GET /drs/{url}` (what follows `drs://`: which
file of a dataset it is).
"""

from __future__ import annotations

from email.utils import formatdate
from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from gdi.contracts.cohorts import EpochCohorts, PeopleTable
from gdi.contracts.descriptor import Descriptor
from gdi.contracts.gateway_api import Datasets, Described, ObjectFile
from gdi.contracts.ids import dataset_of_name
from gdi.contracts.sections import Section
from gdi.contracts.urls import SdaUrl
from gdi.kit.problem import ProblemError
from node_gateway.auth import Caller
from node_gateway.context import Gateway
from node_gateway.downloads import SdaRefusal
from node_gateway.epochs import store
from node_gateway.locations import sda_file


def router(gateway: Gateway) -> APIRouter:
    routes = APIRouter()

    @routes.get("/datasets")
    async def datasets(request: Request) -> Datasets:
        caller = await gateway.auth.caller(request, "workspace")
        found = {dataset: gateway.policy.datasets.of(dataset) for dataset in sorted(caller.datasets)}
        async with gateway.database.read() as connection:
            epochs = await store.all_epochs(connection)
        described = {
            dataset: _described(one, [epoch.cohorts for epoch in epochs if epoch.dataset == dataset])
            for dataset, one in found.items()
            if one is not None
        }
        return Datasets(datasets=list(found), described=described)

    @routes.head("/datasets/{name}/{path:path}")
    async def head(request: Request, name: str, path: str) -> Response:
        caller = await gateway.auth.caller(request, "workspace")
        dataset = dataset_of_name(name) or ""
        try:
            file = _of_run(caller, name, path)
            gateway.policy.datasets.required(dataset)
        except ProblemError as error:
            await gateway.auth.refuse(f"HEAD {request.url.path}", error, caller, dataset=dataset)
            raise
        token = await gateway.broker.node_token(caller.run, "sda")
        try:
            found = await gateway.listings.find(caller.run, file, token)
        except SdaRefusal as refused:
            problem = refused.problem(dataset)
            await gateway.auth.refuse(f"HEAD {request.url.path}", problem, caller, dataset=dataset)
            raise problem from None
        if found is None:
            raise ProblemError(
                404, "not-found", f"{file} does not exist in the archive.", action="Check the path.", dataset=dataset
            )
        headers = {"Content-Length": str(found.size)}
        if found.mtime is not None:
            headers["Last-Modified"] = formatdate(found.mtime, usegmt=True)
        return Response(headers=headers)

    @routes.get("/drs/{url:path}")
    async def drs_object(request: Request, url: Annotated[str, Path(max_length=2000)]) -> ObjectFile:
        caller = await gateway.auth.caller(request, "workspace")
        dataset = ""
        try:
            file = await gateway.objects.find("drs://" + url, caller)
            dataset = file.dataset
            gateway.policy.datasets.required(dataset)
        except ProblemError as error:
            if error.problem.status == 403:
                await gateway.auth.refuse(f"GET {request.url.path}", error, caller, dataset=dataset)
            raise
        return ObjectFile(url=str(file.url), size=file.listed.size, modified=file.listed.mtime)

    return routes


def _described(found: Descriptor, epochs: list[EpochCohorts]) -> Described:
    return Described(
        assembly=found.assembly,
        absent=found.absent,
        files=list(found.files),
        samples=found.samples.file if found.samples else None,
        people=PeopleTable.of(found),
        epochs=epochs,
    )


def _of_run(caller: Caller, name: str, path: str) -> SdaUrl:
    file = sda_file(str(SdaUrl(name, path)))
    section = Section.of(file)
    file = file if section is None else section.file
    dataset = file.dataset
    if dataset not in caller.datasets:
        detail = f"The dataset {dataset} is not one of this run's datasets at this node."
        raise ProblemError(
            403, "dataset-not-granted", detail, action="Start a run that names the dataset.", dataset=dataset
        )
    return file
