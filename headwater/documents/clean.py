"""`clean_documents`: parsed and normalised text with headings and language, or quarantine.

A document that cannot be parsed is quarantined under stage "clean" and never stops its
neighbours.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from typing import Any

from headwater.documents.parse import PARSER_VERSION, parse
from headwater.documents.parsed import Parsed, Rejected
from headwater.documents.stage import (
    Output,
    ShardCounts,
    ShardWriter,
    StageStats,
    as_it_stands,
    quarantined,
    stage_stats,
    with_retired,
    write_quarantine,
)
from headwater.lake import Lake, sole_writer
from headwater.progress import track
from headwater.records import CleanDocument, Heading, Quarantined, digest_of

STAGE_VERSION = "clean/1"
#: Columns that name the content.
OUTPUT = Output(
    table="clean_documents",
    stage="clean",
    version=STAGE_VERSION,
    columns=(
        "uri",
        "source",
        "licence",
        "language",
        "digest",
    ),
)
_LIGHT = ["uri", "source", "shard", "media_type", "licence", "digest"]
#: Characters that the language is told from, and the fewest letters that tell it.
_SAMPLE_CHARS, _FEWEST_LETTERS = 4000, 24
log = logging.getLogger("headwater")


@sole_writer
def clean_documents(lake: Lake, shards: Sequence[str], max_text_chars: int) -> StageStats:
    """Bring `clean_documents` up to `raw_documents`, in these shards.

    Args:
        max_text_chars: a document with more parsed text is quarantined.
    """
    if "clean_documents" in lake.holds():
        return as_it_stands(lake, OUTPUT, shards)
    shards = with_retired(lake, "clean_documents", "raw_documents", shards)
    where = {"shard": shards}
    raw_rows = lake.read("raw_documents", columns=_LIGHT, where=where).to_pylist()
    stored = lake.read("clean_documents", columns=["uri", "shard", "input_digest"], where=where)
    digests = {row["uri"]: row["input_digest"] for row in stored.to_pylist()}
    in_quarantine = quarantined(lake, "clean", shards)

    writer = ShardWriter(lake, "clean_documents")
    rejected: list[dict[str, Any]] = []
    counts = {shard: ShardCounts() for shard in shards}
    by_shard: dict[str, list[dict[str, Any]]] = {shard: [] for shard in shards}
    for row in raw_rows:
        by_shard[row["shard"]].append(row)
    held: dict[str, set[str]] = {shard: set() for shard in shards}
    for row in stored.to_pylist():
        held[row["shard"]].add(row["uri"])

    for shard in track(shards, what="parsing documents"):
        count, keep, changed = counts[shard], set[str](), dict[str, str]()
        for row in by_shard[shard]:
            input_digest = _input_digest(row, max_text_chars)
            before = in_quarantine.get(row["uri"])
            if digests.get(row["uri"]) == input_digest:
                keep.add(row["uri"])
            elif before is not None and before["input_digest"] == input_digest:
                rejected.append(before)
                count.quarantined += 1
            else:
                changed[row["uri"]] = input_digest
        new = []
        for outcome in _parse_all(lake, shard, changed, max_text_chars):
            if isinstance(outcome, Quarantined):
                rejected.append(asdict(outcome))
                count.quarantined += 1
            else:
                new.append(asdict(outcome))
        count.seen = len(by_shard[shard])
        count.processed = len(changed)
        count.reused = count.seen - count.processed
        gone = held[shard] - keep
        count.removed = len(gone - {row["uri"] for row in new})
        if new or gone:
            writer.replace(shard, keep, new)
    writer.flush()
    write_quarantine(lake, "clean", shards, rejected)
    return stage_stats(writer, STAGE_VERSION, OUTPUT.columns, counts)


def _input_digest(row: dict[str, Any], max_text_chars: int) -> str:
    facts = [row[column] for column in _LIGHT]
    return digest_of(STAGE_VERSION, PARSER_VERSION, max_text_chars, facts)


def _parse_all(
    lake: Lake, shard: str, changed: dict[str, str], max_text_chars: int
) -> list[CleanDocument | Quarantined]:
    """Parse the documents of a shard that `changed` maps to their input digests."""
    where = {"shard": [shard], "uri": sorted(changed)}
    columns = [*_LIGHT, "content"]
    found: list[CleanDocument | Quarantined] = []
    for row in lake.read("raw_documents", columns=columns, where=where).to_pylist():
        base = {name: row[name] for name in ("uri", "source", "shard")}
        base["input_digest"] = changed[row["uri"]]
        try:
            parsed = parse(row["content"], row["media_type"], row["uri"], max_text_chars)
        except Rejected as error:
            log.warning("quarantined %s: %s (%s)", row["uri"], error.reason, error.detail)
            found.append(
                Quarantined(**base, stage="clean", reason=error.reason, detail=error.detail)
            )
        else:
            document = CleanDocument(
                **base,
                title=parsed.title,
                language=language_of(parsed.text),
                text=parsed.text,
                headings=parsed.headings,
                licence=row["licence"],
                digest=_content_digest(parsed),
            )
            found.append(document)
    return found


def _content_digest(parsed: Parsed) -> str:
    headings = [[heading.start, heading.level, heading.text] for heading in parsed.headings]
    return digest_of(parsed.title, parsed.text, headings)


def language_of(text: str) -> str:
    """ISO 639-1 code of a text's language, or "und" where there is too little to tell."""
    sample = text[:_SAMPLE_CHARS]
    if sum(char.isalpha() for char in sample) < _FEWEST_LETTERS:
        return "und"
    return str(_identifier().classify(sample)[0])


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE)


def read_documents(lake: Lake, shard: str, uris: Sequence[str]) -> list[CleanDocument]:
    """Some documents of a shard, as records, by URI."""
    rows = lake.read("clean_documents", where={"shard": [shard], "uri": list(uris)}).to_pylist()
    documents = [
        CleanDocument(**{**row, "headings": tuple(Heading(**h) for h in row["headings"])})
        for row in rows
    ]
    return sorted(documents, key=lambda document: document.uri)
