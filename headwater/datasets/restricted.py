"""Which documents must never teach: those whose access tags name `restricted`.

Knows tables and tags, not how training data is made of them.
"""

from dataclasses import dataclass

from headwater.lake import Lake
from headwater.records import RESTRICTED

_TAGGED = ("raw_documents", "clean_documents", "document_shards")


@dataclass(frozen=True, slots=True, kw_only=True)
class RestrictedRow:
    """A row of training data that shows a restricted document; `place` is the column that does."""

    row_id: str
    place: str
    uri: str


def restricted_documents(lake: Lake) -> frozenset[str]:
    """URIs of the documents that any table of documents calls restricted."""
    return frozenset(
        row["uri"]
        for name in _TAGGED
        for row in lake.read(name, columns=["uri", "access"]).to_pylist()
        if RESTRICTED in (row["access"] or ())
    )


def restricted_rows(lake: Lake, table: str) -> list[RestrictedRow]:
    """Rows of a table of training data that are made of a restricted document, or show one.

    Args:
        table: `sft_dataset` or `preference_pairs`.
    """
    documents = restricted_documents(lake)
    chunks = lake.read("document_shards", columns=["id", "uri"], where={"uri": sorted(documents)})
    uris = {row["id"]: row["uri"] for row in chunks.to_pylist()}
    found = []
    for row in lake.read(table).to_pylist():
        if row.get("uri") in documents:
            found.append(RestrictedRow(row_id=row["id"], place="uri", uri=row["uri"]))
        shown = [uris[chunk] for chunk in row["context"] if chunk in uris]
        found += [RestrictedRow(row_id=row["id"], place="context", uri=uri) for uri in shown]
    return found
