"""Documents that people rated out of the corpus, and how `clean_documents` turns them away.

Knows URIs and digests of cleaned texts; who judged them, and where that is kept, is not known here.
A verdict is on a text at its URI: another text there, or the same text elsewhere, was not judged.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from headwater.records import Quarantined, digest_of, shard_of

#: Reason in quarantine, under stage "filter".
RATED_OUT = "rated_out"


@dataclass(frozen=True, slots=True, kw_only=True)
class RatedOut:
    """A document that is to be left out while its cleaned text has this digest.

    `detail` says who left it out and how that is taken back.
    """

    uri: str
    digest: str
    detail: str


def by_shard(entries: Iterable[RatedOut], n_shards: int) -> dict[str, tuple[RatedOut, ...]]:
    """What is rated out, by the shard that its document lives in."""
    found: dict[str, tuple[RatedOut, ...]] = {}
    for entry in sorted(entries, key=lambda each: (each.uri, each.digest)):
        shard = shard_of(entry.uri, n_shards)
        found[shard] = (*found.get(shard, ()), entry)
    return found


def name_of(entries: Iterable[RatedOut]) -> str | None:
    """A digest of what is rated out; None for nothing."""
    named = sorted((each.uri, each.digest, each.detail) for each in entries)
    return digest_of("rated out/1", named) if named else None


def refused(row: dict[str, Any], entry: RatedOut) -> Quarantined:
    """The refusal of a document.

    Its input digest names the verdict's text, too: without the verdict it does not stand.

    Args:
        row: with the document's `uri`, `source`, `shard` and `input_digest`.
    """
    return Quarantined(
        uri=row["uri"],
        source=row["source"],
        shard=row["shard"],
        stage="filter",
        reason=RATED_OUT,
        detail=entry.detail,
        input_digest=_name(row["input_digest"], entry),
    )


def standing(
    before: dict[str, Any], input_digest: str, entries: Sequence[RatedOut]
) -> dict[str, Any] | None:
    """A row of quarantine as it is to stand, or None where its verdict or its bytes are gone.

    Args:
        before: the row as it is, of any reason.
        input_digest: what the document would be made from now.
    """
    for entry in entries:
        if (
            before["reason"] == RATED_OUT
            and entry.uri == before["uri"]
            and before["input_digest"] == _name(input_digest, entry)
        ):
            return {**before, "detail": entry.detail}
    return None


def refusals(rows: pa.Table, entries: Sequence[RatedOut]) -> list[Quarantined]:
    """Rows of `clean_documents` that are rated out."""
    if not entries:
        return []
    known = {(each.uri, each.digest): each for each in entries}
    light = ["uri", "source", "shard", "input_digest", "digest"]
    return [
        refused(row, known[name])
        for row in rows.select(light).to_pylist()
        if (name := (row["uri"], row["digest"])) in known
    ]


def _name(input_digest: str, entry: RatedOut) -> str:
    return digest_of(input_digest, RATED_OUT, entry.digest)
