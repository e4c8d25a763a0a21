"""The queue of outliers: documents with a text far from all others, for a person to judge.

Knows the map's outliers and the documents they stand in, not who judges them or where that is kept.
A document that a confirmed question is about is never asked of: a person has said that it belongs.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from headwater.embeddings.map import Outlier
from headwater.files import read_json, write_json
from headwater.lake import Lake
from headwater.records import GoldenItem, digest_of, shard_of
from headwater.settings import Settings

#: Documents that are asked of at once, and characters of each text.
ASKED, SHOWN = 50, 2_000
#: Characters of titles and headings.
_LINE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class OutlyingDocument:
    """A document to be judged by the farthest of its texts.

    `id` names the document's whole text at its URI, `digest` that text; `start` and `end` are byte
    offsets of the passage that is shown.
    """

    id: str
    uri: str
    digest: str
    title: str
    heading: str
    start: int
    end: int
    text: str
    distance: float
    nearest: str


def outlying_documents(
    lake: Lake, outliers: Sequence[Outlier], n_shards: int
) -> list[OutlyingDocument]:
    """The documents of outliers, one entry each, the farthest first.

    There are no more than a quarter of the map's sample: what is beyond a fence above the third
    quartile.

    Args:
        outliers: the farthest first.
        n_shards: of the lake.
    """
    first = {each.uri: each for each in reversed(outliers)}
    where = {"shard": sorted({shard_of(uri, n_shards) for uri in first}), "uri": sorted(first)}
    rows = lake.read("clean_documents", columns=["uri", "digest", "title"], where=where)
    known = {row["uri"]: row for row in rows.to_pylist()}
    return [
        OutlyingDocument(
            id=text_id(each.uri, known[each.uri]["digest"]),
            uri=each.uri,
            digest=known[each.uri]["digest"],
            title=known[each.uri]["title"][:_LINE],
            heading=each.heading[:_LINE],
            start=each.start,
            end=min(each.end, each.start + len(each.text[:SHOWN].encode())),
            text=each.text[:SHOWN],
            distance=each.distance,
            nearest=each.nearest,
        )
        for each in outliers
        # A document that is not known has just gone from the lake.
        if first[each.uri] is each and each.uri in known
    ]


def to_ask(
    documents: Iterable[OutlyingDocument], *, judged: Collection[str], golden: Iterable[GoldenItem]
) -> list[OutlyingDocument]:
    """The documents that a person is to judge, in their order.

    Args:
        judged: ids of texts that somebody has judged.
        golden: questions; those that are confirmed say that their documents belong.
    """
    confirmed = {uri for item in golden if not item.provisional for uri in item.uris}
    return [each for each in documents if each.id not in judged and each.uri not in confirmed]


def text_id(uri: str, digest: str) -> str:
    """Names a document's cleaned text at its URI."""
    return digest_of("outlier/1", uri, digest)[:32]


def save_outliers(settings: Settings, documents: Iterable[OutlyingDocument]) -> None:
    """Replace what the last map showed, atomically."""
    write_json(_path(settings), [asdict(each) for each in documents])


def read_outliers(settings: Settings) -> list[OutlyingDocument]:
    """The outlying documents of the last map; none before there is one."""
    return [OutlyingDocument(**fields) for fields in read_json(_path(settings)) or ()]


def _path(settings: Settings) -> Path:
    return settings.reports / "outliers.json"
