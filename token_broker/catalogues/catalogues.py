"""What the linked catalogues say of the federation's datasets: read now and then, the last good word kept with its
time. A catalogue that is away changes nothing but that time.
"""

from __future__ import annotations

import logging
import time

from pydantic import ValidationError

from gdi.contracts.access import DatasetDescription
from token_broker.catalogues.bounds import MOST_KEPT
from token_broker.catalogues.harvest import Harvester, HarvestError
from token_broker.enrolment import DataCatalogue, Enrolment, EnrolmentFile

log = logging.getLogger(__name__)
EVERY, AFTER_FAILURE = 3600.0, 300.0  # seconds
MOST_WORDS = 2 * 1024 * 1024  # bytes of one catalogue's descriptions as JSON: each list of datasets has them


class DataCatalogues:
    """`all()`, from memory. `refresh` is the background's duty; each replica reads for itself."""

    def __init__(self, enrolment: EnrolmentFile, *, harvester: Harvester | None = None, every: float = EVERY) -> None:
        self._enrolment, self._every = enrolment, every
        self._harvester = harvester or Harvester()
        self._due: dict[DataCatalogue, float] = {}  # by the clock that only goes forward
        self._kept: dict[DataCatalogue, dict[str, DatasetDescription]] = {}
        self._problems: dict[DataCatalogue, list[str]] = {}
        self._shown: tuple[Enrolment | None, dict[str, DatasetDescription]] = (None, {})

    async def aclose(self) -> None:
        await self._harvester.aclose()

    def all(self) -> dict[str, DatasetDescription]:
        """By dataset; of two catalogues that describe one, the word of the first in the enrolment counts."""
        enrolment = self._enrolment.current
        if self._shown[0] is not enrolment:
            found: dict[str, DatasetDescription] = {}
            for one in enrolment.catalogues:
                for dataset, words in self._kept.get(one, {}).items():
                    node = enrolment.node_of(dataset)
                    if dataset not in found and node is not None and one.describes(node):
                        found[dataset] = words
            self._shown = enrolment, found
        return self._shown[1]

    async def refresh(self) -> None:
        """Reads every catalogue that is due, one after the other."""
        enrolment = self._enrolment.current
        for known in (self._due, self._kept, self._problems):
            for gone in known.keys() - set(enrolment.catalogues):
                del known[gone]
        for one in enrolment.catalogues:
            if time.monotonic() >= self._due.get(one, 0.0):
                good = await self._read(one, enrolment)
                self._due[one] = time.monotonic() + (self._every if good else min(AFTER_FAILURE, self._every))
                self._shown = None, {}

    async def _read(self, one: DataCatalogue, enrolment: Enrolment) -> bool:
        try:
            return await self._kept_from(one, enrolment)
        except HarvestError as error:
            self._note(one, [str(error)])
        except Exception as error:  # whatever a stranger's words caused: the catalogues after it are still read
            log.debug("reading the catalogue %s failed", one.url, exc_info=True)
            self._note(one, [f"reading it failed ({type(error).__name__}); the catalogue's operator may know why"])
        return False

    async def _kept_from(self, one: DataCatalogue, enrolment: Enrolment) -> bool:
        claims = [c for n in enrolment.nodes if one.describes(n) for c in n.datasets]
        harvest = await self._harvester.read(one.url, claims)
        found: dict[str, DatasetDescription] = {}
        read_at = time.time()
        for record in harvest.records:
            dataset = str(record.pop("id"))
            try:
                found[dataset] = DatasetDescription(**record, source=one.url, read_at=read_at)
            except ValidationError as error:
                harvest.problems.append(f"{dataset}: {error.error_count()} values that no description has")
        # What could not be read of it may be what it said before of a dataset: that word stays, with its time.
        before = self._kept.get(one, {}) if harvest.problems else {}
        all_words = found | {dataset: words for dataset, words in before.items() if dataset not in found}
        kept = _within_bounds(all_words)
        self._kept[one] = kept
        left = len(all_words) - len(kept)
        self._note(one, harvest.problems + ([f"{left} datasets are beyond the bounds of what is kept"] if left else []))
        return not harvest.problems

    def _note(self, one: DataCatalogue, problems: list[str]) -> None:
        """Tells the operator once of what is new."""
        if problems != self._problems.get(one, []):
            shown = "; ".join(problems[:3]) + (f"; and {len(problems) - 3} more" if len(problems) > 3 else "")
            if problems:
                log.warning("the catalogue %s could not be read in full: %s", one.url, shown[:1000])
            else:
                log.info("the catalogue %s was read: %d datasets of ours", one.url, len(self._kept[one]))
        self._problems[one] = problems


def _within_bounds(words: dict[str, DatasetDescription]) -> dict[str, DatasetDescription]:
    kept: dict[str, DatasetDescription] = {}
    size = 0
    for dataset, one in words.items():
        size += len(one.model_dump_json().encode())
        if len(kept) >= MOST_KEPT or size > MOST_WORDS:
            break
        kept[dataset] = one
    return kept
