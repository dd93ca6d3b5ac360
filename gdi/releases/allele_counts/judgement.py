"""The check of `allele-counts` over columns. Sites about which nothing left of other cohorts are judged in numpy, with
the rules of `check` (a test holds the two together), those of several alleles in `together`; all others are judged by
`check` itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np
import polars as pl

from gdi.releases.allele_counts import check, parquet
from gdi.releases.allele_counts.answers import CODES, COPIES, SMALL, UNKNOWN, AlleleAnswer
from gdi.releases.allele_counts.parquet import KEYED
from gdi.releases.allele_counts.table import CLASSES, FIELDS, Row, Site, crowded, why_not
from gdi.releases.allele_counts.together import (
    CODE_ALT,
    CODE_MISSING,
    CODE_NOTHING,
    CODE_REF,
    Array,
    Judged,
    calls,
    counts_of,
    few,
    judge,
)
from gdi.releases.columns import PastColumns
from gdi.releases.disclosure.past import Past
from gdi.releases.disclosure.rules import Rule
from gdi.releases.disclosure.vocabulary import ALLELES, MAX_TOPIC, topic
from gdi.releases.kind import Rules

NAMES = ("ac_min", "ac_max", "an_min", "an_max", "code", "carriers", "others", "incomplete", "haploid", "people")
TOPIC = KEYED[:2]
CELL = (*NAMES, "copies", *CLASSES)
PLAIN = frozenset({Rule.ZERO})  # rules that may be off here; with others off, every site is judged by `check`


def judged(
    batch: pl.DataFrame, cells: pl.DataFrame, table: Past, names: parquet.Names, rules: Rules, past: PastColumns
) -> Answers:
    """What is said of each row of whole sites. `batch` is keyed (`parquet.Names.keyed`); `cells`: what left before at
    these positions, `number` of the cohort, KEYED and CELL, the first that left first; `table`: what left of these
    topics in other ways; `names`: of the file's variants.
    """
    batch = batch.with_row_index("row")
    edges = parquet.edges(batch, parquet.PLACE)
    alleles = np.diff(edges)
    site = np.repeat(np.arange(len(alleles)), alleles)
    crowd = np.searchsorted(parquet.crowds(batch), edges[:-1], side="right")
    together = (alleles > 1) | (np.bincount(crowd)[crowd] > 1)
    slow = np.zeros(len(alleles), dtype=bool)
    bad = np.zeros(len(alleles), dtype=bool)
    if len(names.twice):
        at = batch.join(names.twice, on=KEYED, how="semi")["row"].to_numpy()
        bad[site[at]] = slow[site[at]] = True
    if not rules.off <= PLAIN:
        slow[:] = True
    answers = _alone(batch, rules)
    answers.site = site
    here = cells.head(0).with_columns(row=pl.lit(0, dtype=pl.UInt32))
    if len(cells):
        here = batch.select("row", *TOPIC).join(cells, on=TOPIC, how="inner")
        own = -1 if past.past.number is None else past.past.number
        mine = batch.select("row", *KEYED).join(cells.filter(pl.col("number") == own), on=KEYED, how="inner")
        slow[site[here["row"].to_numpy()]] = True
        again = site[mine["row"].to_numpy()]
        if rules.off <= PLAIN:
            slow[again] = together[again] | bad[again]
        answers.put_before(mine.unique("row", keep="first"))
    topics = topics_of(batch) if table.topics else pl.Series(dtype=pl.String)
    slow[site[topics.is_in(list(table.topics)).arg_true().to_numpy()]] = True
    if not rules.off:
        found = judge(batch, edges, crowd, together & ~slow, rules)
        answers.put_judged(found)
        together &= ~found.sites
    slow |= together
    unfit = batch["chrom"].replace_strict(names.unfit, default="", return_dtype=pl.String) if names.unfit else None
    if unfit is not None:
        slow[site[(unfit != "").to_numpy()]] = False
    places = np.flatnonzero(slow)
    if len(places):
        known = replace(past.past, cells=table.cells, topics=table.topics)
        one_by_one(batch, here, places, edges, bad, crowd, answers, rules, known)
    if unfit is not None:
        answers.put_unfit(unfit)
    return answers


class Answers:
    """Columns of answers, a row each: `numbers` by NAMES and `copies`, `classes` (-1 where they stay), `keyed`: the
    ledger remembers it; `before`: it left of this cohort before. `why`: by number of a site, why it cannot be counted.
    """

    def __init__(self, numbers: dict[str, Array], classes: Array) -> None:
        self.numbers, self.classes = numbers, classes
        rows = len(numbers["ac_min"])
        self.site = np.zeros(rows, dtype=np.int64)
        self.keyed = np.ones(rows, dtype=bool)
        self.before = np.zeros(rows, dtype=bool)
        self.why: dict[int, str] = {}

    @property
    def exact(self) -> Array:
        return np.asarray(self.numbers["ac_min"] == self.numbers["ac_max"], dtype=bool)

    def put_before(self, cells: pl.DataFrame) -> None:
        """What left of the same cohort is answered again."""
        at = cells["row"].to_numpy()
        for name in NAMES:
            self.numbers[name][at] = cells[name].to_numpy()
        exact = cells["ac_min"] == cells["ac_max"]
        copies = cells.select(pl.when(exact).then("ac_min").otherwise("copies").fill_null(UNKNOWN)).to_series()
        self.numbers["copies"][at] = copies.to_numpy()
        self.classes[at] = cells.select(CLASSES).fill_null(-1).to_numpy()
        self.before[at] = True

    def put_judged(self, found: Judged) -> None:
        """What is judged of sites of several alleles."""
        for name, column in found.numbers.items():
            self.numbers[name][found.rows] = column
        self.classes[found.rows] = -1

    def put_unfit(self, why: pl.Series) -> None:
        """As `check._unusable`, of the rows that have a word of why."""
        at = (why != "").to_numpy()
        starts = np.flatnonzero(np.diff(self.site, prepend=-1))
        most = COPIES * np.maximum.reduceat(self.numbers["people"], starts)[self.site] if len(starts) else self.site
        for name in NAMES:
            self.numbers[name][at] = 0
        for name in ("ac_max", "an_max"):
            self.numbers[name][at] = most[at]
        self.numbers["code"][at] = CODE_MISSING
        self.numbers["copies"][at] = 0
        self.classes[at] = -1
        self.keyed[at] = self.before[at] = False
        self.why.update((int(self.site[row]), why[row]) for row in starts.tolist() if why[row])

    def put(self, row: int, one: AlleleAnswer) -> None:
        found = one.cell.numbers
        for name, number in zip(NAMES, found, strict=False):
            self.numbers[name][row] = number
        self.numbers["copies"][row] = one.copies
        self.classes[row] = one.classes or -1
        self.keyed[row] = bool(one.key)

    def listed(self, rules: Rules) -> Array:
        """As `node.is_listed`."""
        return np.asarray((self.numbers["code"] != CODE_ALT) | (Rule.UNLISTED in rules.off), dtype=bool)

    def withheld(self) -> Counter[str]:
        """Sites by why they are withheld: the reason of the first allele, where none is exact."""
        starts = np.flatnonzero(np.diff(self.site, prepend=-1))
        stay = ~np.logical_or.reduceat(self.exact, starts) if len(starts) else np.zeros(0, dtype=bool)
        stay[list(self.why)] = False
        found = Counter[str]()
        for code, sites in enumerate(np.bincount(self.numbers["code"][starts[stay]]).tolist()):
            found[CODES[code][0] or SMALL] += sites
        found.update(self.why.values())
        return found


def _alone(batch: pl.DataFrame, rules: Rules) -> Answers:
    """Each row as the only one of its site, with no past: `check._judge`, `check.an_range`, `check._classes_pass`."""
    c, floor, spread = counts_of(batch), rules.floor, COPIES * (rules.floor - 1)
    half_alt = c["ac"] - c["het"] - 2 * c["hom_alt"] - c["hemi_alt"]
    carriers = c["het"] + c["hom_alt"] + c["hemi_alt"] + half_alt
    others = c["hom_ref"] + c["het"] + c["hemi_ref"] + c["half_missing"] - half_alt
    incomplete, haploid = c["half_missing"] + c["missing"], c["hemi_ref"] + c["hemi_alt"]
    people = c["hom_ref"] + c["het"] + c["hom_alt"] + haploid + incomplete

    def enough(numbers: Array) -> Array:
        return np.asarray((numbers >= floor) | ((numbers == 0) & (Rule.ZERO in rules.off)))

    low, top = calls(c, floor)
    common = enough(carriers)
    nobody = ~common & ((c["an"] + 1) // 2 < floor)
    hidden, small = common & ~enough(others), ~common & ~nobody
    numbers = {
        "ac_min": np.select([nobody | small, hidden], [0, np.maximum(0, low - spread)], c["ac"]),
        "ac_max": np.select([nobody | small, hidden], [spread, np.maximum(0, top)], c["ac"]),
        "an_min": np.where(nobody, 0, low),
        "an_max": np.where(nobody, 2 * spread, top),
        "code": np.select([nobody, hidden, small], [CODE_MISSING, CODE_REF, CODE_ALT], CODE_NOTHING),
        **dict(zip(NAMES[5:], (carriers, others, incomplete, haploid, people), strict=True)),
        "copies": c["ac"].copy(),
    }
    classes = np.full((len(batch), len(CLASSES)), -1, dtype=np.int64)
    if rules.classes:
        exact = (numbers["code"] == CODE_NOTHING) & (numbers["an_min"] == numbers["an_max"])
        rare = (c["missing"], c["half_missing"] - half_alt, haploid - c["hemi_alt"])
        more = (c["hemi_ref"], c["hemi_alt"], half_alt)
        passes = exact & ~np.any([few(n, floor) for n in (*rare, *more)], axis=0)
        passes &= ~((rare[2] == 0) & (haploid > 0))
        passes &= np.all([c[name] >= floor for name in CLASSES[:3]], axis=0)
        classes[passes] = np.column_stack([c[name] for name in CLASSES])[passes]
    return Answers(numbers, classes)


def one_by_one(
    batch: pl.DataFrame,
    here: pl.DataFrame,
    places: Array,
    edges: Array,
    bad: Array,
    crowd: Array,
    answers: Answers,
    rules: Rules,
    past: Past,
) -> None:
    """Sites `places` by `check.answer`. `here`: what left before at the batch's positions; `crowd`: by site, the number
    of the records that overlap each other.
    """
    cells: dict[str, dict[int, tuple[int, ...]]] = {}
    spoken: dict[int, set[str]] = {}
    if len(here):
        wanted = here.filter(pl.col("row").is_in(_rows_of(places, edges).implode()))
        keys = wanted.select(pl.concat_str(KEYED, separator=":")).to_series()
        for key, (row, number, *numbers) in zip(keys, wanted.select("row", "number", *CELL).iter_rows(), strict=True):
            plain = tuple(n for n in numbers if n is not None)
            cells.setdefault(key, {}).setdefault(number, plain)
            spoken.setdefault(row, set()).add(key)
    for place, site in zip(places.tolist(), _sites(batch, places, edges, bad, crowd), strict=True):
        at = range(edges[place], edges[place + 1])
        keys_now = [check.key_of(row, rules.off) for row in site.rows]
        topics = {one: set(past.topics.get(one, ())) for one in {topic(ALLELES, key) for key in keys_now}}
        for key in {key for row in at for key in spoken.get(row, ())}:
            topics.setdefault(topic(ALLELES, key), set()).add(key)
        near = {key for of in topics.values() for key in of}
        of_keys = {key: {**cells.get(key, {}), **past.cells.get(key, {})} for key in near}
        topics = {one: of for one, of in topics.items() if of}
        now = Past(past.own, past.number, past.cohorts, of_keys, past.listed, topics)
        answered = check.answer(site, rules, now)
        for row, one in zip(at, answered, strict=True):
            answers.put(row, one)
            answers.before[row] = bool(one.key) and past.number in of_keys.get(one.key, {})
        if site.why:
            answers.why[place] = site.why


def _sites(batch: pl.DataFrame, places: Array, edges: Array, bad: Array, crowd: Array) -> Iterator[Site]:
    """The sites `places`; of records that overlap, all are among them."""
    for _, same in groupby(places.tolist(), key=lambda place: crowd[place]):
        found = []
        for place in same:
            rows = tuple(Row(*values) for values in batch[edges[place] : edges[place + 1]].select(FIELDS).iter_rows())
            found.append(Site(rows, "duplicate-site" if bad[place] else why_not(rows)))
        yield from crowded(found)


def _rows_of(places: Array, edges: Array) -> pl.Series:
    found = [np.arange(edges[place], edges[place + 1]) for place in places.tolist()]
    return pl.Series(np.concatenate(found), dtype=pl.UInt32)


def topics_of(batch: pl.DataFrame) -> pl.Series:
    """`vocabulary.topic` of each row."""
    sites = batch.select(pl.concat_str(TOPIC, separator=":")).to_series()
    long = (sites.str.len_bytes() > MAX_TOPIC).arg_true()
    return sites.scatter(long, [topic(ALLELES, f"{site}:A:C") for site in sites[long]]) if len(long) else sites


def places_of(sites: Sequence[str]) -> pl.DataFrame:
    """Contig and position of `vocabulary.site`, as columns TOPIC."""
    parts = [site.rpartition(":") for site in sites]
    found = {"k_chrom": [part[0] for part in parts], "k_pos": [part[2] for part in parts]}
    places = pl.DataFrame(found, schema=dict.fromkeys(TOPIC, pl.String))
    return places.with_columns(pl.col("k_pos").cast(pl.Int32, strict=False)).drop_nulls().unique()
