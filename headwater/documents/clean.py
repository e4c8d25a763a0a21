"""`clean_documents`: parsed and normalised text with headings, language and signals of quality.

A document that cannot be parsed is quarantined under stage "clean", one that fails heuristics of
quality or a suite, where these are to turn it away, under stage "filter"; neither stops its
neighbours. Parsing is done by child processes, which are started where something has changed.
Personal data is counted or replaced before anything else looks at the text. What tells duplicates is
computed here, once for each changed document; which of them stays is not known here.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from headwater.documents.parse import (
    NEEDS_PROGRAM,
    PARSER_VERSION,
    parse_by_program,
    tools,
)
from headwater.documents.parsed import Parsed, Rejected, fold
from headwater.documents.parser_pool import LIMIT_REASONS, ParserLimits, ParserPool, Unparsed
from headwater.documents.personal import PersonalPolicy, redacted, screen
from headwater.documents.quality import DOCUMENT_COLUMNS, broken, document_table
from headwater.documents.rest import Rest
from headwater.documents.signals import SIGNALS_VERSION, findings
from headwater.documents.signature import SIGNATURE_VERSION, signature
from headwater.documents.stage import (
    Output,
    ShardCounts,
    ShardWriter,
    StageStats,
    as_it_stands,
    at_rest,
    quarantined,
    stage_stats,
    with_retired,
    write_quarantine,
)
from headwater.documents.suites import Suite
from headwater.lake import Lake, rows_to_table, sole_writer
from headwater.progress import track
from headwater.records import CleanDocument, Heading, Quarantined, digest_of

STAGE_VERSION = "clean/2"
#: Columns that name the content.
OUTPUT = Output(
    table="clean_documents",
    stages=("clean", "filter"),
    version=STAGE_VERSION,
    columns=("uri", "source", "licence", "language", "digest", "quality_flags"),
    where_given=("access", "personal_data"),
)
_LIGHT = ["uri", "source", "shard", "media_type", "licence", "digest"]
_RECORD = ["uri", "source", "shard", "title", "language", "text", "headings", "licence"]
_RECORD += ["access", "input_digest", "digest"]
#: Characters that the language is told from, and the fewest letters that tell it.
_SAMPLE_CHARS, _FEWEST_LETTERS = 4000, 24
#: Reasons that depend on a document's whole shard, where a suite is to quarantine.
FAILED, FAILED_SHARD = "failed_expectation", "failed_shard"
#: What is done about a text that fails heuristics of quality: nothing, a note, or quarantine.
QualityFilter = Literal["off", "report", "filter"]
log = logging.getLogger("headwater")


@sole_writer
def clean_documents(
    lake: Lake,
    shards: Sequence[str],
    max_text_chars: int,
    *,
    quality_filter: QualityFilter = "report",
    personal: PersonalPolicy | None = None,
    suite: Suite | None = None,
    limits: ParserLimits | None = None,
    children: int = 1,
) -> StageStats:
    """Bring `clean_documents` up to `raw_documents`, in these shards.

    Args:
        max_text_chars: a document with more parsed text is quarantined.
        quality_filter: what is done about a document that fails a heuristic of quality.
        personal: what is done about personal data; None is nothing.
        suite: what each shard is asked that is to be quarantined where it fails; what only blocks or
            warns is asked of the whole table by a check.
        limits: what the parser of one document may use.
        children: parser processes at once, at most.
    """
    if "clean_documents" in lake.holds():
        return as_it_stands(lake, OUTPUT, shards)
    limits = limits or ParserLimits()
    rules = suite.quarantining if suite else None
    chosen = [["personal data", personal.digest]] if personal else []
    chosen += [["expectations", rules.digest]] if rules else []
    shards = with_retired(lake, "clean_documents", "raw_documents", shards)
    versions = [STAGE_VERSION, PARSER_VERSION, SIGNATURE_VERSION, SIGNALS_VERSION]
    # Of the programs that a parser starts there is one, which reads pictures.
    program = tools("image/png")
    made_with = [versions, max_text_chars, quality_filter, limits.digest, program, *chosen]
    rest = Rest(lake, ["clean_documents", "quarantine"], ["raw_documents"], made_with)
    counts = {shard: ShardCounts(**(rest.counts(shard) or {})) for shard in shards}
    awake = [shard for shard in shards if rest.counts(shard) is None]
    in_quarantine = {
        **quarantined(lake, "filter", awake),
        **quarantined(lake, "clean", awake),
    }

    writer = ShardWriter(lake, "clean_documents")
    rejected: list[dict[str, Any]] = []
    raw = lake.snapshot("raw_documents").partitions(awake, [*_LIGHT, "access"])
    stored = lake.snapshot("clean_documents").partitions(awake, ["uri", "input_digest"])
    both = zip(raw, stored, strict=True)
    with ParserPool(limits, children) as pool:
        for (shard, rows), (_, held) in track(both, what="parsing documents", total=len(awake)):
            count, keep, changed = counts[shard], set[str](), dict[str, str]()
            digests = dict(
                zip(held["uri"].to_pylist(), held["input_digest"].to_pylist(), strict=True)
            )
            waiting: dict[str, str] = {}
            present = rows.to_pylist()
            for row in present:
                input_digest = _input_digest(row, max_text_chars, quality_filter, chosen)
                before = in_quarantine.get(row["uri"])
                if digests.get(row["uri"]) == input_digest:
                    keep.add(row["uri"])
                elif before is not None and before["input_digest"] == _refusal_digest(
                    input_digest, before["reason"], limits
                ):
                    if before["reason"] in (FAILED, FAILED_SHARD):
                        waiting[row["uri"]] = input_digest
                        continue
                    rejected.append(before)
                    count.quarantined += 1
                else:
                    changed[row["uri"]] = input_digest
            if waiting and (changed or _is_smaller(shard, present, digests, in_quarantine)):
                changed |= waiting  # what they failed with is another shard now
            else:
                rejected += [in_quarantine[uri] for uri in waiting]
                count.quarantined += len(waiting)
            new: list[CleanDocument] = []
            for outcome in _parse_all(
                lake,
                shard,
                changed,
                pool,
                max_text_chars=max_text_chars,
                quality_filter=quality_filter,
                personal=personal,
            ):
                if isinstance(outcome, Quarantined):
                    rejected.append(asdict(outcome))
                    count.quarantined += 1
                else:
                    new.append(outcome)
            if rules and (new or digests.keys() - keep):
                turned = list(_turned_away(lake, shard, keep, new, rules))
                for refused in turned:
                    log.warning("quarantined %s: %s", refused.uri, refused.detail)
                rejected += [asdict(refused) for refused in turned]
                count.quarantined += len(turned)
                uris = {refused.uri for refused in turned}
                keep -= uris
                new = [document for document in new if document.uri not in uris]
            count.seen = len(present)
            count.processed = len(changed)
            count.reused = count.seen - count.processed
            gone = digests.keys() - keep
            count.removed = len(gone - {document.uri for document in new})
            if new or gone:
                writer.replace(shard, keep, [asdict(document) for document in new])
    writer.flush()
    for stage in OUTPUT.stages:
        mine = [row for row in rejected if row["stage"] == stage]
        write_quarantine(lake, stage, awake, mine)
    stats = stage_stats(writer, OUTPUT, counts)
    rest.keep({shard: at_rest(counts[shard]) for shard in awake})
    return stats


def _input_digest(
    row: dict[str, Any],
    max_text_chars: int,
    quality_filter: QualityFilter,
    chosen: Sequence[Sequence[str]],
) -> str:
    facts = [row[column] for column in _LIGHT]
    versions = [STAGE_VERSION, PARSER_VERSION, SIGNATURE_VERSION, SIGNALS_VERSION]
    # Tags, programs and choices are named where there are some: what has none keeps its name.
    tags = [["access", row["access"]]] if row["access"] else []
    made_with = (*tags, *tools(row["media_type"]), *chosen)
    return digest_of(versions, max_text_chars, quality_filter, facts, *made_with)


def _is_smaller(
    shard: str,
    raw_rows: Sequence[dict[str, Any]],
    held: Mapping[str, str],
    in_quarantine: dict[str, dict[str, Any]],
) -> bool:
    """Whether a document of the shard has gone since it was last looked at."""
    known = held.keys() | {uri for uri, row in in_quarantine.items() if row["shard"] == shard}
    return not known <= {row["uri"] for row in raw_rows}


def _refusal_digest(input_digest: str, reason: str, limits: ParserLimits) -> str:
    """Names what a refusal was made from; where the limits may be to blame, them too.

    So raising one has the documents parsed again that it stopped, and no others.
    """
    return digest_of(input_digest, limits.digest) if reason in LIMIT_REASONS else input_digest


def _parse_all(
    lake: Lake,
    shard: str,
    changed: dict[str, str],
    pool: ParserPool,
    *,
    max_text_chars: int,
    quality_filter: QualityFilter,
    personal: PersonalPolicy | None,
) -> list[CleanDocument | Quarantined]:
    """Parse the documents of a shard that `changed` maps to their input digests."""
    where = {"shard": [shard], "uri": sorted(changed)}
    columns = [*_LIGHT, "access", "content"]
    rows = lake.read("raw_documents", columns=columns, where=where).to_pylist()
    documents = [
        Unparsed(
            content=row["content"],
            media_type=row["media_type"],
            uri=row["uri"],
            max_chars=max_text_chars,
        )
        for row in rows
    ]
    found: list[CleanDocument | Quarantined] = []
    for row, parsed in zip(rows, _outcomes(documents, pool), strict=True):
        base = {name: row[name] for name in ("uri", "source", "shard")}
        base["input_digest"] = changed[row["uri"]]
        if isinstance(parsed, Rejected):
            reason, detail = parsed.reason, parsed.detail
            if personal and personal.redact:  # it may quote the document
                detail = redacted(detail, personal.kinds)
            base["input_digest"] = _refusal_digest(base["input_digest"], reason, pool.limits)
            refused = Quarantined(**base, stage="clean", reason=reason, detail=detail)
            outcome: CleanDocument | Quarantined = refused
        else:
            base |= {name: row[name] for name in ("licence", "access")}
            outcome = _judged(parsed, base, quality_filter, personal)
        if isinstance(outcome, Quarantined):
            log.warning("quarantined %s: %s (%s)", outcome.uri, outcome.reason, outcome.detail)
        found.append(outcome)
    return found


def _judged(
    parsed: Parsed,
    base: dict[str, Any],
    quality_filter: QualityFilter,
    personal: PersonalPolicy | None,
) -> CleanDocument | Quarantined:
    """The document with its signals, or why it is turned away for them."""
    language = language_of(parsed.text)
    counts = None
    if personal:
        parsed, counts = screen(parsed, personal, language)
    failed = [] if quality_filter == "off" else findings(parsed.text, language)
    if failed and quality_filter == "filter":
        known = {name: base[name] for name in ("uri", "source", "shard", "input_digest")}
        detail = "; ".join(map(str, failed))
        return Quarantined(**known, stage="filter", reason=failed[0].name, detail=detail)
    return CleanDocument(
        **base,
        title=parsed.title,
        language=language,
        text=parsed.text,
        headings=parsed.headings,
        digest=_content_digest(parsed),
        quality_flags=tuple(finding.name for finding in failed),
        folded_digest=digest_of(fold(parsed.text)),
        signature=signature(parsed.text),
        personal_data=counts,
    )


def _turned_away(
    lake: Lake, shard: str, keep: set[str], new: Sequence[CleanDocument], rules: Suite
) -> Iterator[Quarantined]:
    """Documents of a shard that fail the suite: single ones, or all where they fail together.

    Asked of all that the shard would hold, so the answer depends on nothing that was before.
    """
    columns = list(DOCUMENT_COLUMNS)
    stored = lake.read("clean_documents", columns=columns, where={"shard": [shard]})
    stored = stored.filter(pc.is_in(stored["uri"], pa.array(sorted(keep), pa.string())))
    made = rows_to_table("clean_documents", [asdict(document) for document in new]).select(columns)
    table = pa.concat_tables([stored, made]).sort_by("uri")
    if not table.num_rows:
        return
    found = broken(rules, document_table(table, rules))
    together = f"all of shard {shard}: {'; '.join(found.together)}" if found.together else ""
    for row in table.select(["uri", "source", "shard", "input_digest"]).to_pylist():
        if together or row["uri"] in found.documents:
            yield Quarantined(
                **row,
                stage="filter",
                reason=FAILED_SHARD if together else FAILED,
                detail=together or found.documents[row["uri"]],
            )


def _outcomes(documents: Sequence[Unparsed], pool: ParserPool) -> Iterator[Parsed | Rejected]:
    """What becomes of each document, in their order.

    A program is started from here, under limits of its own: a confined process may start none. It
    gets what such a process has looked at.
    """
    for each, outcome in zip(documents, pool.map(documents), strict=True):
        if not (isinstance(outcome, Rejected) and outcome.reason == NEEDS_PROGRAM):
            yield outcome
            continue
        try:
            yield parse_by_program(each.content, each.uri, each.max_chars)
        except Rejected as error:
            yield error


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
    """Some documents of a shard, as records, by URI; without what tells duplicates."""
    where = {"shard": [shard], "uri": list(uris)}
    rows = lake.read("clean_documents", columns=_RECORD, where=where).to_pylist()
    documents = [
        CleanDocument(**{**row, "headings": tuple(Heading(**h) for h in row["headings"])})
        for row in rows
    ]
    return sorted(documents, key=lambda document: document.uri)
