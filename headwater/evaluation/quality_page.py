"""The outcome of a suite of expectations as a page: what was asked, what held, which rows did not.

Knows a result's figures only, not how expectations are asked.
"""

from collections.abc import Mapping
from typing import Any

from headwater.documents.asked import QualityResult, worst_first
from headwater.evaluation.document import Document, Table

#: Shards that are shown.
_MOST_SHARDS = 100
#: Arguments that say nothing of what is asked.
_DEFAULTS: tuple[Any, ...] = (None, "", [], {}, False)


def quality_document(title: str, result: QualityResult) -> Document:
    """The page: the verdict, every expectation with what was found, rows that failed, and shards."""
    held = sum(each["success"] for each in result.expectations)
    blocking = [each for each in result.expectations if _verdict(each) == "fails"]
    rows = [
        (
            _verdict(each),
            str(each["expectation"]),
            str(each["column"]),
            _asked(each["arguments"]),
            f"{each['unexpected']:,}",
            str(each["detail"] or _shown(each["observed"])),
        )
        for each in result.expectations
    ]
    header = ("", "expectation", "column", "asked", "rows that fail", "observed")
    parts = [Table("Expectations", header, rows)]
    if result.failing_rows:
        failing = [(row["uri"], row["column"], row["value"]) for row in result.failing_rows]
        parts.append(Table("Rows that fail", ("document or chunk of", "column", "value"), failing))
    shards = [
        (str(each["shard"]), f"{each['rows']:,}", f"{each['unexpected']:,}", str(each["status"]))
        for each in worst_first(result.shards)[:_MOST_SHARDS]
    ]
    if shards:
        parts.append(Table(_shards_shown(result), ("shard", "rows", "fail", "status"), shards))
    return Document(
        title=title,
        facts={
            "rows": f"{result.statistics.get('rows', 0):,}",
            "expectations that hold": f"{held} of {len(result.expectations)}",
        },
        notes=[f"{each['expectation']} on {each['column']} fails." for each in blocking],
        parts=parts,
    )


def _shards_shown(result: QualityResult) -> str:
    more = len(result.shards) - _MOST_SHARDS
    return f"Shards ({more} more)" if more > 0 else "Shards"


def _verdict(entry: Mapping[str, Any]) -> str:
    if entry["success"]:
        return "holds"
    return "warns" if entry["severity"] == "warning" else "fails"


def _asked(arguments: Mapping[str, Any]) -> str:
    """What an expectation was given, as far as it was given anything."""
    given = {name: value for name, value in arguments.items() if value not in _DEFAULTS}
    return ", ".join(f"{name} {value}" for name, value in sorted(given.items()))


def _shown(observed: Any) -> str:
    return "" if observed is None else str(observed)
