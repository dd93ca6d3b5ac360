"""Each node's public Beacon asked at once: which of the federation's datasets have carriers of a variant."""

from __future__ import annotations

import asyncio
import time

import httpx
from pydantic import ValidationError

from gdi.contracts.beacon import BeaconAnswer, BeaconResponse, DatasetCarriers, VariantAnswer, VariantQuestion
from gdi.contracts.ids import is_dataset_id
from gdi.kit.bounded_read import BoundedAsyncClient, TooLargeError
from gdi.kit.tls import authorities
from token_broker.enrolment import EnrolmentFile, Node

WITHIN = 10.0  # seconds for a node's answer (QS-02 of the 1+MG reference architecture)
MAX_ANSWER = 4 * 1024 * 1024


class Beacons:
    """No token goes to a Beacon: what it tells is public."""

    def __init__(self, enrolment: EnrolmentFile, *, within: float = WITHIN) -> None:
        self._enrolment, self._within = enrolment, within
        self._http = BoundedAsyncClient(
            max_answer=MAX_ANSWER,
            timeout=within,
            limits=httpx.Limits(max_connections=200, max_keepalive_connections=50),
            trust_env=False,
            verify=authorities(),
        )

    async def aclose(self) -> None:
        await self._http.aclose()

    async def ask(self, question: VariantQuestion) -> VariantAnswer:
        """Every enrolled node's answer, by id, after 10 s at the latest; who does not answer is named with the
        reason.
        """
        nodes = sorted(self._enrolment.current.nodes, key=lambda n: n.id)
        answers = await asyncio.gather(*(self._one(node, question) for node in nodes))
        usable = {d.id for answer in answers for d in answer.datasets if d.usable}
        return VariantAnswer(nodes=list(answers), datasets=sorted(usable))

    async def _one(self, node: Node, question: VariantQuestion) -> BeaconAnswer:
        if node.beacon_url is None:
            return BeaconAnswer(node=node.id, state="no-beacon", reason="The node has no public Beacon.")
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._within):
                answer = await self._http.post(f"{node.beacon_url.rstrip('/')}/g_variants", json=question.query())
            if answer.status_code != 200:
                return _missing(node, f"Its Beacon answered {answer.status_code}.")
            found = BeaconResponse.model_validate_json(answer.content).carriers()
        except TimeoutError:
            return _missing(node, f"Its Beacon did not answer within {self._within:g} s.")
        except TooLargeError:
            return _missing(node, f"Its Beacon answered more than {MAX_ANSWER} bytes.")
        except ValidationError:
            return _missing(node, "What its Beacon answered is not a Beacon v2 answer.")
        except httpx.HTTPError as error:
            return _missing(node, f"Its Beacon cannot be reached ({type(error).__name__}).")
        datasets = [
            DatasetCarriers(id=name, allele_count=count, allele_number=number, usable=_usable(node, name))
            for name, (count, number) in sorted(found.items())
        ]
        seconds = round(time.monotonic() - began, 3)
        return BeaconAnswer(node=node.id, state="answered", seconds=seconds, datasets=datasets)


def _usable(node: Node, dataset: str) -> bool:
    return is_dataset_id(dataset) and node.claims(dataset)


def _missing(node: Node, reason: str) -> BeaconAnswer:
    return BeaconAnswer(node=node.id, state="missing", reason=reason)
