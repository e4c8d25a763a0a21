"""`duplicates`: documents that say what another one says, over all shards, and which one stays.

Knows digests and signatures of `clean_documents`, never texts. The answer depends on the documents
there are and on nothing else: not on their order, their shards or what was there before.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headwater.documents.signature import PERMUTATIONS, signatures
from headwater.files import read_json, write_json
from headwater.lake import Lake, rows_to_table, sole_writer
from headwater.memory import give_back, uncollected
from headwater.records import digest_of
from headwater.snapshot import MAKERS, Snapshot, read_ahead
from headwater.tables import SCHEMAS

STAGE_VERSION = "duplicates/1"
#: 25 bands of 5: of two documents that share 0.8 of their shingles 99.995 % meet in a band, at 0.7
#: 99 %, at 0.5 just over half, which the signatures then tell apart.
BANDS, ROWS = 25, 5
#: Documents that share a band are compared with as many that follow in it: what bounds the work
#: where thousands hold one form. Those that are alike are then linked through others.
_WINDOW = 32
#: Pairs that are compared at once.
_BLOCK = 2**13

#: What of `clean_documents` tells duplicates.
COMPARED = pa.schema(
    [
        SCHEMAS["clean_documents"].field(name)
        for name in ("uri", "source", "shard", "folded_digest", "signature")
    ]
)
Indices = npt.NDArray[np.intp]
Signatures = npt.NDArray[np.uint16]


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicateStats:
    """What was found among `documents`: how many are left out, and what for.

    `clusters` counts the groups they form; `digest` names the rows of the table.
    """

    documents: int
    exact: int
    near: int
    clusters: int
    written: bool
    digest: str


@sole_writer
def find_duplicates(lake: Lake, threshold: float) -> DuplicateStats:
    """Write the table `duplicates`: one row for each document that another one stands in for.

    A table that holds these rows already is left as it is. Nothing is compared where the files of
    both tables are those of last time. In memory are a signature and two names of each document.

    Args:
        threshold: documents that share this part of their word 5-grams are near-duplicates; at 1
            only those whose text is the same but for whitespace are duplicates.
    """
    lake.ensure(["duplicates"])
    documents = lake.snapshot("clean_documents")
    memory = lake.root / ".rest" / "duplicates.json"
    before = read_json(memory)
    if before is not None and before["key"] == _key(lake, documents, threshold):
        return DuplicateStats(**before["stats"])
    with uncollected():
        rows = _left_out(documents, threshold)
        give_back()
        stored = lake.read("duplicates").sort_by("uri").to_pylist()
    written = stored != rows
    if written:
        lake.overwrite("duplicates", rows_to_table("duplicates", rows))
    exact = sum(row["kind"] == "exact" for row in rows)
    stats = DuplicateStats(
        documents=sum(documents.sizes.values()),
        exact=exact,
        near=len(rows) - exact,
        clusters=len({row["cluster"] for row in rows}),
        written=written,
        digest=digest_of(STAGE_VERSION, rows),
    )
    again = asdict(replace(stats, written=False))
    write_json(memory, {"key": _key(lake, documents, threshold), "stats": again})
    return stats


def _left_out(documents: Snapshot, threshold: float) -> list[dict[str, Any]]:
    """The rows of `duplicates` for all of `clean_documents`, by URI."""
    columns = [*COMPARED.names, "access"]
    parts = [SCHEMAS["clean_documents"].empty_table().select(columns).drop_columns(["signature"])]
    # Most of what is compared, so in memory once; rows that are not filled take none.
    signed = np.empty((sum(documents.sizes.values()), PERMUTATIONS), np.uint16)
    count = 0
    for _, table in documents.partitions(sorted(documents.files), columns):
        has = table.filter(pc.is_valid(table["signature"]))
        signed[count : count + len(has)] = signatures(has["signature"])
        count += len(has)
        parts.append(has.drop_columns(["signature"]))
    give_back()
    compared = pa.concat_tables(parts)
    found = []
    for places in _by_access(compared["access"]):
        some = compared if len(places) == count else compared.take(places)
        found += resolve(some, Signed(signed, places.to_numpy()), threshold)
    return sorted(found, key=lambda row: row["uri"])


def _key(lake: Lake, documents: Snapshot, threshold: float) -> str:
    """Names what the table was made from, and what it holds."""
    return digest_of(STAGE_VERSION, threshold, documents.files, lake.snapshot("duplicates").files)


def survivors(lake: Lake) -> dict[str, str]:
    """The documents that are left out, each with the one that stands in for it."""
    rows = lake.read("duplicates", columns=["uri", "survivor"])
    return dict(zip(rows["uri"].to_pylist(), rows["survivor"].to_pylist(), strict=True))


def left_out_by_shard(lake: Lake, shards: Sequence[str]) -> dict[str, set[str]]:
    """The documents of these shards that are left out, by shard."""
    rows = lake.read("duplicates", columns=["shard", "uri"], where={"shard": shards})
    found: defaultdict[str, set[str]] = defaultdict(set)
    for shard, uri in zip(rows["shard"].to_pylist(), rows["uri"].to_pylist(), strict=True):
        found[shard].add(uri)
    return dict(found)


def _by_access(access: pa.ChunkedArray) -> Iterator[pa.Array]:
    """Numbers of the documents with the same tags: nobody may lose a text because it is also in a
    document that is not for them.
    """
    if access.null_count == len(access):
        yield pa.array(np.arange(len(access)))
        return
    rows = defaultdict(list)
    for number, tags in enumerate(access.to_pylist()):
        rows[tuple(tags or ())].append(number)
    yield from map(pa.array, rows.values())


class Signed:
    """Signatures of documents in an order of their own, as rows of an array that is there once.

    Args:
        signed: (n, 128), a signature a row.
        rows: of the documents; default all.
    """

    def __init__(self, signed: Signatures, rows: Indices | None = None) -> None:
        self._signed, self._rows = signed, np.arange(len(signed)) if rows is None else rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, places: Indices) -> "Signed":
        return Signed(self._signed, self._rows[places])

    def keys(self, band: int) -> npt.NDArray[np.uint64]:
        """One number for each of a band's rows; equal ones have equal numbers."""
        keys = np.zeros(len(self), np.uint64)
        for column in self._signed[:, band * ROWS : (band + 1) * ROWS][self._rows].T:
            keys = keys * np.uint64(0x9E37_79B9_7F4A_7C15) + column
        return keys

    def agreement(self, left: Indices, right: Indices) -> npt.NDArray[np.float64]:
        """The part in which signatures agree, pair by pair: an estimate of what the texts share."""
        found = np.empty(len(left), np.float64)
        for start in range(0, len(left), _BLOCK):
            block = slice(start, start + _BLOCK)
            one, other = self._rows[left[block]], self._rows[right[block]]
            found[block] = (self._signed[one] == self._signed[other]).mean(axis=1)
        return found


def resolve(documents: pa.Table, signed: Signed, threshold: float) -> list[dict[str, Any]]:
    """The rows of `duplicates` for these documents, by URI.

    Args:
        documents: the columns of `COMPARED`, of which the signature need not be there.
        signed: theirs.
    """
    order = ranks(documents["uri"])
    # One for each text: exact duplicates need no comparing.
    texts = _numbered(documents["folded_digest"].take(order))
    _, leads = np.unique(texts, return_index=True)
    give_back()  # what numbered them is as large as the signatures
    signed = signed[order.to_numpy()[leads]]
    survivor, cluster = _survivors(signed, threshold)
    alike = signed.agreement(np.arange(len(leads)), survivor)
    give_back()  # what was sorted on the way

    stays = leads[survivor[texts]]
    out = np.flatnonzero(stays != np.arange(len(texts)))
    exact = texts[out] == survivor[texts[out]]

    def ranked(columns: list[str], places: Indices) -> pa.Table:
        return documents.select(columns).take(order.take(pa.array(places)))

    found = ranked(["uri", "source", "shard"], out).to_pylist()
    clusters = ranked(["uri"], leads[cluster[texts[out]]])["uri"].to_pylist()
    names = ranked(["uri"], stays[out])["uri"].to_pylist()
    for row, named, stands_in, same, share in zip(
        found, clusters, names, exact.tolist(), alike[texts[out]].tolist(), strict=True
    ):
        row |= {
            "cluster": named,
            "survivor": stands_in,
            "similarity": 1.0 if same else share,
            "kind": "exact" if same else "near",
        }
    return sorted(found, key=lambda row: row["uri"])


def _numbered(texts: pa.ChunkedArray) -> Indices:
    """Numbers of texts, equal ones the same, by the first place of each."""
    numbers: Indices = texts.combine_chunks().dictionary_encode().indices.to_numpy()
    return numbers


def ranks(uris: pa.ChunkedArray) -> pa.Array:
    """Numbers of URIs, the one that stays first: the shortest path, then the alphabet.

    Copies are called `copy of x`, `x-v2` or lie in `old/`: the plain name is the one that people
    link to. A name is also what an edit does not change, so an edit never swaps two documents.
    """
    paths = pc.replace_substring_regex(uris, "(?s)^.*://", "")
    table = pa.table({"length": pc.utf8_length(paths), "uri": uris})
    return pc.sort_indices(table, [("length", "ascending"), ("uri", "ascending")])


def _survivors(signed: Signed, threshold: float) -> tuple[Indices, Indices]:
    """For each signature the one that stands in for it, and the first that it is linked to.

    Links join documents to clusters, and a long chain of small edits may join two that have little
    in common. So the first of a cluster stands only for those that two variants of one text may be
    apart: Jaccard's distance obeys the triangle inequality, so that is twice the threshold's. What
    is farther forms clusters of its own.
    """
    count = len(signed)
    survivor = np.arange(count)
    cluster = np.arange(count)
    if threshold >= 1:
        return survivor, cluster
    active, furthest = np.arange(count), 2 * threshold - 1
    while len(active):
        first = active[_linked(signed[active], threshold)]
        if len(active) == count:
            cluster = first
        near = signed.agreement(active, first) >= furthest
        survivor[active[near]] = first[near]
        active = active[~near]
    return survivor, cluster


def _linked(signed: Signed, threshold: float) -> Indices:
    """For each signature the first one that it is linked to, itself where there is none."""
    group = np.arange(len(signed))

    def sorted_keys(band: int) -> tuple[Indices, npt.NDArray[np.uint64]]:
        keys = signed.keys(band)
        order = np.argsort(keys, kind="stable")
        return order, keys[order]

    for _, (order, keys) in read_ahead(sorted_keys, range(BANDS), readers=MAKERS):
        for left, right in _meetings(order, keys):
            apart = group[left] != group[right]
            left, right = left[apart], right[apart]  # noqa: PLW2901
            alike = signed.agreement(left, right) >= threshold
            group = _joined(group, left[alike], right[alike])
    return group


def _meetings(order: Indices, keys: npt.NDArray[np.uint64]) -> Iterator[tuple[Indices, Indices]]:
    """Pairs of equal keys, at most `_WINDOW` apart among their equals; of sorted keys, and their places."""
    for apart in range(1, min(_WINDOW, len(keys) - 1) + 1):
        same = np.flatnonzero(keys[apart:] == keys[:-apart])
        if not len(same):
            return
        yield order[same], order[same + apart]


def _joined(group: Indices, left: Indices, right: Indices) -> Indices:
    """The groups after these pairs are linked; a group is named by its first member."""
    if not len(left):
        return group
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(group)
    links = coo_array((np.ones(len(left), bool), (group[left], group[right])), (count, count))
    labels = connected_components(links, directed=False)[1]
    _, first = np.unique(labels, return_index=True)
    # Names are members of their groups, so the first name with a label is the group's first member.
    return np.asarray(first[labels[group]], np.intp)
