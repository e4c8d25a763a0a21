"""Which documents must never teach: those whose access tags name `restricted`, or named it at last.

Knows tables and tags, not how training data is made of them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from headwater.lake import Lake
from headwater.records import RESTRICTED

#: Tables that know tags: of the documents there are, of those turned away, and of those gone.
_TAGGED = ("raw_documents", "clean_documents", "document_shards", "quarantine", "tombstones")


@dataclass(frozen=True, slots=True, kw_only=True)
class RestrictedRow:
    """A row of training data that comes of a restricted document; `place` is the column that tells."""

    row_id: str
    place: str
    uri: str


def restricted_documents(lake: Lake) -> frozenset[str]:
    """URIs of the documents that any table of documents calls restricted; some may be gone."""
    return frozenset(
        row["uri"]
        for name in _TAGGED
        for row in lake.read(name, columns=["uri", "access"]).to_pylist()
        if RESTRICTED in (row["access"] or ())
    )


def restricted_rows(lake: Lake, table: str) -> list[RestrictedRow]:
    """Rows of a table of training data that are made of a restricted document, or show one.

    Or were said of an answer that was given from one, even where the document is gone.

    Args:
        table: `sft_dataset` or `preference_pairs`.
    """
    documents = restricted_documents(lake)
    chunks = lake.read("document_shards", columns=["id", "uri"], where={"uri": sorted(documents)})
    uris = {row["id"]: row["uri"] for row in chunks.to_pylist()}
    rows = lake.read(table).to_pylist()
    given_from = _given_from(lake, rows, documents)
    found = []
    for row in rows:
        if row.get("uri") in documents:
            found.append(RestrictedRow(row_id=row["id"], place="uri", uri=row["uri"]))
        shown = [uris[chunk] for chunk in row["context"] if chunk in uris]
        found += [RestrictedRow(row_id=row["id"], place="context", uri=uri) for uri in shown]
        told = [uri for trace in _traces(row) for uri in given_from.get(trace, ())]
        found += [RestrictedRow(row_id=row["id"], place="trace", uri=uri) for uri in told]
    return found


def _traces(row: Mapping[str, Any]) -> list[str]:
    """The requests that a row comes from: of a pair several, of a correction one, mostly none."""
    one = row.get("trace")
    return [*(row.get("traces") or ()), *([one] if one is not None else [])]


def _given_from(
    lake: Lake, rows: Iterable[Mapping[str, Any]], documents: frozenset[str]
) -> dict[str, list[str]]:
    """Restricted documents that the answers of some rows' requests were given from, by trace."""
    traces = sorted({trace for row in rows for trace in _traces(row)})
    requests = lake.read("requests", columns=["trace", "uris"], where={"trace": traces})
    return {
        row["trace"]: sorted(documents.intersection(row["uris"])) for row in requests.to_pylist()
    }
