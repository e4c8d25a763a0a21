"""Where every document went: indexed, duplicate, quarantined or filtered, and why.

Knows the lake's tables by their light columns. The mart `corpus_accounting` counts the same from
the chunks themselves.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from headwater.lake import Lake


@dataclass(slots=True)
class Account:
    """The documents of one source; `reasons` counts those that are not to be indexed."""

    source: str
    documents: int = 0
    indexed: int = 0
    duplicates: int = 0
    quarantined: int = 0
    filtered: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def unaccounted(self) -> int:
        """Documents that came in and are nowhere: 0, unless a stage was killed."""
        fates = (self.indexed, self.duplicates, self.quarantined, self.filtered)
        return self.documents - sum(fates)


def account(lake: Lake) -> list[Account]:
    """One account a source, by name."""
    accounts: dict[str, Account] = {}

    def of(row: dict[str, Any]) -> Account:
        return accounts.setdefault(row["source"], Account(row["source"]))

    for row in _rows(lake, "raw_documents", ["source"]):
        of(row).documents += 1
    for row in _rows(lake, "clean_documents", ["source"]):
        of(row).indexed += 1
    for row in lake.read("duplicates", columns=["source", "kind"]).to_pylist():
        of(row).duplicates += 1
        of(row).indexed -= 1
        of(row).reasons[f"{row['kind']} duplicate"] += 1
    for row in _rows(lake, "quarantine", ["source", "stage", "reason"]):
        if row["stage"] == "raw":  # it has no row among the raw documents
            of(row).documents += 1
        if row["stage"] == "filter":
            of(row).filtered += 1
        else:
            of(row).quarantined += 1
        of(row).reasons[row["reason"]] += 1
    return [accounts[source] for source in sorted(accounts)]


def _rows(lake: Lake, table: str, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of a sharded table, of some shards in memory at a time."""
    stored = lake.snapshot(table)
    for _, rows in stored.partitions(sorted(stored.files), columns):
        yield from rows.to_pylist()


def flags(lake: Lake) -> list[dict[str, Any]]:
    """How many documents of each source fail which heuristic of quality; the most frequent first."""
    counts: Counter[tuple[str, str]] = Counter()
    for row in _rows(lake, "clean_documents", ["source", "quality_flags"]):
        counts.update((row["source"], flag) for flag in row["quality_flags"] or ())
    found = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [{"source": source, "flag": flag, "documents": count} for (source, flag), count in found]


def personal_data(lake: Lake) -> list[dict[str, Any]]:
    """How many documents of each source hold which kind of personal data, and how often."""
    documents: Counter[tuple[str, str]] = Counter()
    finds: Counter[tuple[str, str]] = Counter()
    for row in _rows(lake, "clean_documents", ["source", "personal_data"]):
        for held in row["personal_data"] or ():
            documents[row["source"], held["kind"]] += 1
            finds[row["source"], held["kind"]] += held["count"]
    return [
        {"source": source, "kind": kind, "documents": documents[source, kind], "finds": count}
        for (source, kind), count in sorted(finds.items(), key=lambda item: (-item[1], item[0]))
    ]
