"""Beacon v2, aggregated data: `/g_variants` and `/datasets` by POST and GET, and the framework's own pages. It answers
what GDI's mini-node answers, with the fields of the standard's default model.
"""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Request
from pydantic import BaseModel, ConfigDict, Field, field_validator
from starlette.responses import JSONResponse, Response

from gdi.contracts.beacon import Assembly, Bases
from gdi.kit import server
from gdi.local_federation.beacon.frequencies import DatasetFolders, StoredVariant

API = "v2.2.0"
SCHEMAS = f"https://raw.githubusercontent.com/ga4gh-beacon/beacon-v2/{API}"
MODEL = f"{SCHEMAS}/models/json/beacon-v2-default-model"
MAX_BODY = 64 * 1024
MAX_PAGE = 1000
Entity = Literal["dataset", "genomicVariant"]
ENTITIES: dict[Entity, tuple[str, str, str, str]] = {  # name, path, folder of its schema, ontology term
    "dataset": ("Datasets", "datasets", "datasets", "NCIT:C47824"),
    "genomicVariant": ("Genomic variants", "g_variants", "genomicVariations", "ENSGLOSSARY:0000092"),
}


class BeaconPart(BaseModel):
    model_config = ConfigDict(extra="ignore")


class Pagination(BeaconPart):
    skip: int = Field(default=0, ge=0)
    limit: int = Field(default=10, ge=0)


class Parameters(BeaconPart):
    assemblyId: Assembly | None = None
    referenceName: Annotated[str, Field(pattern="^([1-9]|1[0-9]|2[0-2]|X|Y|M)$")] | None = None
    start: list[int] | None = Field(default=None, min_length=1, max_length=2)
    referenceBases: Bases | None = None
    alternateBases: Bases | None = None
    variantType: str = Field(default="SNP", max_length=20)

    @field_validator("start", mode="before")
    @classmethod
    def _numbers(cls, value: Any) -> Any:  # a list, or text as a query has it
        return [int(part) for part in value.split(",")] if isinstance(value, str) else value

    @property
    def variant(self) -> StoredVariant | None:
        """None where a part is missing: then nothing is found."""
        if not (self.assemblyId and self.referenceName and self.start and self.referenceBases and self.alternateBases):
            return None
        bases = self.referenceBases, self.alternateBases
        return StoredVariant(self.assemblyId, self.referenceName, self.start[0], *bases, self.variantType)


class Query(BeaconPart):
    requestParameters: Parameters = Parameters()
    pagination: Pagination = Pagination()
    requestedGranularity: Literal["boolean", "count", "aggregated", "record"] = "record"


class BeaconRequest(BeaconPart):
    query: Query = Query()


def create_app(folder: Path, beacon_id: str, name: str) -> FastAPI:
    """Over the datasets of `folder`. `beacon_id` as `org.example.beacon`."""
    app = FastAPI(title=name, docs_url=None, redoc_url=None, openapi_url=None)
    server.install(app, max_body=MAX_BODY)
    datasets = DatasetFolders(folder)
    framework = Framework(beacon_id, name)

    @app.get("/")
    @app.get("/info")
    async def info(request: Request) -> Response:
        return JSONResponse(framework.info(str(request.base_url)))

    @app.get("/service-info")
    async def service_info() -> Response:
        return JSONResponse(framework.service_info())

    @app.get("/configuration")
    async def configuration() -> Response:
        return JSONResponse(framework.configuration())

    @app.get("/entry_types")
    async def entry_types() -> Response:
        return JSONResponse(framework.page({"entryTypes": framework.entry_types()}, "entryTypes"))

    @app.get("/map")
    async def endpoints(request: Request) -> Response:
        return JSONResponse(framework.map(str(request.base_url)))

    @app.get("/filtering_terms")
    async def filtering_terms() -> Response:
        return JSONResponse(framework.page({"filteringTerms": [], "resources": []}, "filteringTerms"))

    async def variants(asking: BeaconRequest) -> Response:
        query = asking.query
        variant, page, hits = query.requestParameters.variant, query.pagination, []
        for dataset in datasets.all() if variant is not None else []:
            assert variant is not None
            if found := await asyncio.to_thread(datasets.populations, dataset["id"], variant):
                hits.append(result_set(dataset["id"], variant, found))
        shown = hits[page.skip : page.skip + min(page.limit, MAX_PAGE)]
        return JSONResponse(framework.answer(asking, "genomicVariant", len(hits), {"resultSets": shown}))

    async def collections(asking: BeaconRequest) -> Response:
        known, page = datasets.all(), asking.query.pagination
        shown = known[page.skip : page.skip + min(page.limit, MAX_PAGE)]
        return JSONResponse(framework.answer(asking, "dataset", len(known), {"collections": shown}))

    @app.post("/g_variants")
    async def post_variants(asking: BeaconRequest) -> Response:
        return await variants(asking)

    @app.get("/g_variants")
    async def get_variants(request: Request) -> Response:
        return await variants(_of_query(request))

    @app.post("/datasets")
    async def post_datasets(asking: BeaconRequest) -> Response:
        return await collections(asking)

    @app.get("/datasets")
    async def get_datasets(request: Request) -> Response:
        return await collections(_of_query(request))

    return app


def _of_query(request: Request) -> BeaconRequest:
    """GET: parameters of the query (Beacon v2, "Using GET")."""
    given = dict(request.query_params)
    page = {k: given[k] for k in ("skip", "limit") if k in given}
    granularity = {k: given[k] for k in ("requestedGranularity",) if k in given}
    return BeaconRequest.model_validate({"query": {"requestParameters": given, "pagination": page, **granularity}})


def result_set(dataset: str, variant: StoredVariant, populations: list[dict[str, Any]]) -> dict[str, Any]:
    """A dataset that has the variant, as the mini-node shows it."""
    interval = {
        "type": "SequenceInterval",
        "start": {"type": "Number", "value": variant.position},
        "end": {"type": "Number", "value": variant.position + len(variant.ref)},
    }
    sequence = f"HGVSid:{variant.chromosome}:g.{variant.position + 1}{variant.ref}>{variant.alt}"
    record = {
        "variantInternalId": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{dataset}/{sequence}")),
        "variation": {
            "location": {"type": "SequenceLocation", "sequence_id": sequence, "interval": interval},
            "referenceBases": variant.ref,
            "alternateBases": variant.alt,
            "variantType": variant.kind,
        },
        "frequencyInPopulations": [
            {
                "source": "The Genome of Europe",
                "sourceReference": "https://genomeofeurope.eu/",
                "numberOfPopulations": len(populations),
                "frequencies": populations,  # as the standard's model names them
                "populations": populations,  # as the mini-node does, and the User Portal reads
            }
        ],
    }
    return {"id": dataset, "setType": "dataset", "exists": True, "resultsCount": 1, "results": [record]}


class Framework:
    """What every Beacon says of itself."""

    def __init__(self, beacon_id: str, name: str) -> None:
        self._id, self._name = beacon_id, name
        self._organization = {"id": "gdi", "name": "A node of a federation on one machine"}

    def page(self, response: dict[str, Any], entity: str) -> dict[str, Any]:
        schemas = [{"entityType": entity, "schema": f"{SCHEMAS}/framework/json/responses/{entity}.json"}]
        return {"meta": {"beaconId": self._id, "apiVersion": API, "returnedSchemas": schemas}, "response": response}

    def info(self, base: str) -> dict[str, Any]:
        mine = {"id": self._id, "name": self._name, "apiVersion": API, "environment": "test", "welcomeUrl": base}
        return self.page({**mine, "organization": self._organization}, "info")

    def service_info(self) -> dict[str, Any]:
        return {
            "id": self._id,
            "name": self._name,
            "type": {"group": "org.ga4gh", "artifact": "beacon", "version": API},
            "organization": {"name": self._organization["name"], "url": "https://gdi.onemilliongenomes.eu"},
            "version": "1",
            "environment": "test",
        }

    def configuration(self) -> dict[str, Any]:
        content = {
            "$schema": f"{SCHEMAS}/framework/json/configuration/beaconConfigurationSchema.json",
            "maturityAttributes": {"productionStatus": "TEST"},
            "securityAttributes": {"securityLevels": ["PUBLIC"], "defaultGranularity": "record"},
            "entryTypes": self.entry_types(),
        }
        return self.page(content, "configuration")

    def entry_types(self) -> dict[str, Any]:
        return {
            entity: {
                "id": entity,
                "name": name,
                "partOfSpecification": f"Beacon {API}",
                "ontologyTermForThisType": {"id": term, "label": name},
                "defaultSchema": {
                    "id": f"beacon-{entity}-{API}",
                    "name": f"Default schema of {name.lower()}",
                    "referenceToSchemaDefinition": f"{MODEL}/{folder}/defaultSchema.json",
                },
            }
            for entity, (name, _, folder, term) in ENTITIES.items()
        }

    def map(self, base: str) -> dict[str, Any]:
        sets = {
            entity: {
                "entryType": entity,
                "openAPIEndpointsDefinition": f"{MODEL}/{folder}/endpoints.json",
                "rootUrl": base + path,
            }
            for entity, (_, path, folder, _) in ENTITIES.items()
        }
        schema = f"{SCHEMAS}/framework/json/configuration/beaconMapSchema.json"
        return self.page({"$schema": schema, "endpointSets": sets}, "map")

    def answer(self, asking: BeaconRequest, entity: Entity, total: int, found: dict[str, Any]) -> dict[str, Any]:
        query, folder = asking.query, ENTITIES[entity][2]
        schemas = [{"entityType": entity, "schema": f"{MODEL}/{folder}/defaultSchema.json"}]
        summary = {
            "apiVersion": API,
            "requestedSchemas": [],
            "pagination": query.pagination.model_dump(),
            "requestedGranularity": query.requestedGranularity,
        }
        meta = {
            "beaconId": self._id,
            "apiVersion": API,
            "receivedRequestSummary": summary,
            "returnedSchemas": schemas,
            "returnedGranularity": query.requestedGranularity,
        }
        whole: dict[str, Any] = {"meta": meta, "responseSummary": {"exists": total > 0}}
        if query.requestedGranularity != "boolean":
            whole["responseSummary"]["numTotalResults"] = total
        if query.requestedGranularity in ("record", "aggregated"):
            whole["response"] = found
        return whole
