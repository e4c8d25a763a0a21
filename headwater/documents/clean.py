"""`clean_documents`: parsed and normalised text with headings, language and signals of quality.

A document that cannot be parsed is quarantined under stage "clean", one that fails heuristics of
quality or a suite, where these are to turn it away, or that people rated out, under stage "filter";
neither stops its neighbours. Parsing is done by child processes, which are started where something has changed.
Personal data is counted or replaced before anything else looks at the text. What tells duplicates is
computed here, once for each changed document; which of them stays is not known here.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cache, partial
from itertools import islice
from typing import Any, Literal

import pyarrow as pa

from headwater.documents.parse import (
    NEEDS_PROGRAM,
    PARSER_VERSION,
    depends_on,
    format_versions,
    parse_by_program,
    tools,
)
from headwater.documents.parsed import Parsed, Rejected, fold
from headwater.documents.parser_pool import LIMIT_REASONS, ParserLimits, ParserPool, Unparsed
from headwater.documents.personal import PersonalPolicies, PersonalPolicy, redacted, screen
from headwater.documents.quality import DOCUMENT_COLUMNS, broken, document_table
from headwater.documents.rated_out import RatedOut, name_of, refusals, standing
from headwater.documents.rest import Rest
from headwater.documents.row_digests import encode, joined, json_of, names_of
from headwater.documents.signals import SIGNALS_VERSION, findings
from headwater.documents.signature import SIGNATURE_VERSION, signature
from headwater.documents.stage import (
    BLOCK,
    BLOCK_BYTES,
    Output,
    ShardCounts,
    ShardWriter,
    StageStats,
    as_it_stands,
    at_rest,
    made_from,
    quarantined,
    stage_stats,
    with_retired,
    write_quarantine,
)
from headwater.documents.suites import Suite
from headwater.executors.base import Executor, in_blocks, map_groups, refuse_unlike
from headwater.executors.inline import Inline
from headwater.lake import Lake, chosen_rows, rows_to_table, writer_of_shards
from headwater.progress import track
from headwater.records import CleanDocument, Heading, Quarantined, digest_of
from headwater.tables import SCHEMAS

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
_STORED = ["uri", "source", "shard", "licence", "access", "input_digest", "digest"]
#: Columns of a document's record.
RECORD = ["uri", "source", "shard", "title", "language", "text", "headings", "licence"]
RECORD += ["access", "input_digest", "digest"]
_COLUMNS = [column.name for column in fields(CleanDocument)]
#: What a row of quarantine has of its document's.
_KNOWN, _TOLD = ("uri", "source", "shard", "input_digest"), ("licence", "access")
#: Characters that the language is told from, and the fewest letters that tell it.
_SAMPLE_CHARS, _FEWEST_LETTERS = 2000, 24
#: Reasons that depend on a document's whole shard, where a suite is to quarantine.
FAILED, FAILED_SHARD = "failed_expectation", "failed_shard"
#: What is done about a text that fails heuristics of quality: nothing, a note, or quarantine.
QualityFilter = Literal["off", "report", "filter"]
log = logging.getLogger("headwater")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleaning:
    """What is done with a document, wherever that is; plain values, since it may go far."""

    max_text_chars: int
    quality_filter: QualityFilter
    personal: PersonalPolicies
    limits: ParserLimits

    def made_by(self) -> list[Any]:
        """Versions and programs that the outcome depends on, as this process has them."""
        versions = [STAGE_VERSION, PARSER_VERSION, SIGNATURE_VERSION, SIGNALS_VERSION]
        personal = [self.personal.digest] if self.personal.digest else []
        # Of the programs that a parser starts there is one, which reads pictures.
        return [*versions, *format_versions(), *tools("image/png"), *personal]


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What became of some documents: rows of `clean_documents`, and those turned away.

    `notes` are URIs, each with what its parser says that it left as it was.
    """

    rows: pa.Table
    refused: list[Quarantined]
    notes: list[tuple[str, str]]


@dataclass(slots=True)
class _Work:
    """A shard that is looked at: input digests of the rows it holds, and of what is to be made."""

    shard: str
    seen: int
    held: dict[str, str]
    keep: set[str] = field(default_factory=set)
    changed: dict[str, str] = field(default_factory=dict)
    #: Rows of quarantine that stand.
    refused: list[dict[str, Any]] = field(default_factory=list)
    #: Documents that are held and were rated out since.
    rated_out: list[Quarantined] = field(default_factory=list)


@writer_of_shards
def clean_documents(
    lake: Lake,
    shards: Sequence[str],
    max_text_chars: int,
    *,
    quality_filter: QualityFilter = "report",
    personal: PersonalPolicies = PersonalPolicies(),  # noqa: B008 - it is frozen
    suite: Suite | None = None,
    rated_out: Mapping[str, Sequence[RatedOut]] | None = None,
    limits: ParserLimits | None = None,
    children: int = 1,
    executor: Executor | None = None,
    in_force: Sequence[str] | None = None,
) -> StageStats:
    """Bring `clean_documents` up to `raw_documents`, in these shards.

    Args:
        max_text_chars: a document with more parsed text is quarantined.
        quality_filter: what is done about a document that fails a heuristic of quality.
        personal: what is done about personal data, by source; nothing by default.
        suite: what each shard is asked that is to be quarantined where it fails; what only blocks or
            warns is asked of the whole table by a check.
        rated_out: what people left out, by shard. It moves what is held, and parses nothing; what is
            taken back is parsed again.
        limits: what the parser of one document may use.
        children: parser processes of this process at once, at most.
        executor: who makes documents of bytes, a parser process to each worker; the default is this
            process. Which documents, and what is written, is decided here.
        in_force: all shards, where others may be at work beside this one (`with_retired`).
    """
    if "clean_documents" in lake.holds():
        return as_it_stands(lake, OUTPUT, shards)
    executor = executor or Inline()
    limits = limits or ParserLimits()
    rules = suite.quarantining if suite else None
    left_out = rated_out or {}
    chosen = [["expectations", rules.digest]] if rules else []
    shards = with_retired(lake, "clean_documents", "raw_documents", shards, in_force)
    versions = [STAGE_VERSION, PARSER_VERSION, SIGNATURE_VERSION, SIGNALS_VERSION]
    # Of the programs that a parser starts there is one, which reads pictures.
    program = (*format_versions(), *tools("image/png"))
    looked_for = [["personal data", personal.digest]] if personal.digest else []
    made_with = [versions, max_text_chars, quality_filter, limits.digest, program]
    made_with += [*looked_for, *chosen]
    of_shard = {shard: name_of(entries) for shard, entries in left_out.items()}
    tables = ["clean_documents", "quarantine"]
    rest = Rest(lake, tables, ["raw_documents"], made_with, of_shard, recall=True)
    counts = {shard: ShardCounts(**(rest.counts(shard) or {})) for shard in shards}
    awake = [shard for shard in shards if rest.counts(shard) is None]
    in_quarantine = {
        **quarantined(lake, "filter", awake),
        **quarantined(lake, "clean", awake),
    }
    how = Cleaning(
        max_text_chars=max_text_chars,
        quality_filter=quality_filter,
        personal=personal,
        limits=limits,
    )
    writer = ShardWriter(lake, OUTPUT)
    rejected: list[dict[str, Any]] = []

    def named(rows: pa.Table) -> dict[str, str]:
        return _input_digests(rows, how, chosen)

    def works() -> Iterator[tuple[_Work, list[list[dict[str, Any]]]]]:
        """Shards with documents to make, with these in blocks; the other shards are finished."""
        # With the bytes, ahead: a shard that is awake has nearly always something to make.
        raw, stored = lake.snapshot("raw_documents"), lake.snapshot("clean_documents")
        both = zip(
            raw.partly(awake, [*_LIGHT, "access"], ["content"]),
            stored.partitions(awake, _STORED if left_out else ["uri", "input_digest"]),
            strict=True,
        )
        for (shard, found), (_, table) in track(both, what="parsing documents", total=len(awake)):
            rows = found.rows
            held = dict(
                zip(table["uri"].to_pylist(), table["input_digest"].to_pylist(), strict=True)
            )
            touched = rest.touched(shard, raw, stored)
            digests = made_from(rows, held, touched, named)
            entries = left_out.get(shard, ())
            out = refusals(table, entries)
            work = _compare(shard, digests, held, in_quarantine, limits, entries=entries, out=out)
            if work.refused:  # rows older than these columns get them
                told = {row["uri"]: row for row in rows.select(["uri", *_TOLD]).to_pylist()}
                work.refused = [row | told[row["uri"]] for row in work.refused]
            if work.changed:
                yield work, _blocks(found.of(work.changed), work, apart=executor.apart)
            else:
                finish(work, [])

    def finish(work: _Work, made: Sequence[Cleaned]) -> None:
        """Have a shard hold what is kept and what was made, but for what fails the suite."""
        shard, keep, refused = work.shard, work.keep, [*work.refused]
        for uri, note in (each for block in made for each in block.notes):
            log.warning("%s: %s", uri, note)
        empty = SCHEMAS["clean_documents"].empty_table()
        new = pa.concat_tables([empty, *(block.rows for block in made)])
        out = refusals(new, left_out.get(shard, ()))
        new = _without(new, {each.uri for each in out})
        turned_away = (each for block in made for each in block.refused)
        for outcome in (*turned_away, *work.rated_out, *out):
            log.warning("quarantined %s: %s (%s)", outcome.uri, outcome.reason, outcome.detail)
            refused.append(asdict(outcome))
        if rules and (len(new) or work.held.keys() - keep):
            turned = list(_turned_away(lake, shard, keep, new, rules))
            for each in turned:
                log.warning("quarantined %s: %s", each.uri, each.detail)
            refused += [asdict(each) for each in turned]
            uris = {each.uri for each in turned}
            keep = keep - uris
            new = _without(new, uris)
        gone = work.held.keys() - keep
        count = counts[shard]
        count.seen, count.processed = work.seen, len(work.changed)
        count.reused = count.seen - count.processed
        count.quarantined = len(refused)
        count.removed = len(gone.difference(new["uri"].to_pylist()))
        rejected.extend(refused)
        if len(new) or gone:
            writer.replace(shard, gone, new)

    with ParserPool(limits, children) as pool:  # it starts no child before there is a document
        clean = (
            partial(clean_apart, how, how.made_by())
            if executor.apart
            else partial(_cleaned, how, pool=pool)
        )
        for work, made in map_groups(executor, clean, works()):
            finish(work, made)
            del work, made  # not held while the next shard is made
    writer.flush()
    for stage in OUTPUT.stages:
        mine = [row for row in rejected if row["stage"] == stage]
        write_quarantine(lake, stage, awake, mine)
    stats = stage_stats(writer, counts)
    rest.keep({shard: at_rest(counts[shard]) for shard in awake})
    return stats


def _compare(
    shard: str,
    digests: Mapping[str, str],
    held: dict[str, str],
    in_quarantine: Mapping[str, dict[str, Any]],
    limits: ParserLimits,
    *,
    entries: Sequence[RatedOut],
    out: Sequence[Quarantined],
) -> _Work:
    """What stands of a shard and what is to be made again.

    Args:
        digests: what each document that there is would be made from.
        held: what each stored one was made from.
        entries: what is rated out of this shard.
        out: the stored ones that are.
    """
    work = _Work(shard, len(digests), held)
    rated_out = {each.uri: each for each in out}
    waiting: dict[str, str] = {}
    for uri, input_digest in digests.items():
        before = in_quarantine.get(uri)
        if held.get(uri) == input_digest:
            if uri in rated_out:
                work.rated_out.append(rated_out[uri])
            else:
                work.keep.add(uri)
        elif before is not None and (stands := standing(before, input_digest, entries)):
            work.refused.append(stands)
        elif before is not None and before["input_digest"] == _refusal_digest(
            input_digest, before["reason"], limits
        ):
            if before["reason"] in (FAILED, FAILED_SHARD):
                waiting[uri] = input_digest
            else:
                work.refused.append(before)
        else:
            work.changed[uri] = input_digest
    rated = bool(work.rated_out or waiting.keys() & {each.uri for each in entries})
    fewer = rated or _is_smaller(shard, digests, held, in_quarantine)
    if waiting and (work.changed or fewer):
        work.changed |= waiting  # what they failed with is another shard now
    else:
        work.refused += [in_quarantine[uri] for uri in waiting]
    return work


def _input_digests(
    rows: pa.Table, how: Cleaning, chosen: Sequence[Sequence[str]]
) -> dict[str, str]:
    """What each document is made from, as `digest_of` names it, by URI.

    Args:
        rows: of `raw_documents`: `_LIGHT` and `access`.
    """
    versions = [STAGE_VERSION, PARSER_VERSION, SIGNATURE_VERSION, SIGNALS_VERSION]

    @cache
    def rest(media_type: str, source: str, access: tuple[str, ...]) -> str:
        # Tags, programs and choices are named where there are some: what has none keeps its name.
        tags = [["access", list(access)]] if access else []
        policy = how.personal.of(source)
        personal = [["personal data", policy.digest]] if policy else []
        return "".join(
            f",{encode(each)}" for each in (*tags, *depends_on(media_type), *personal, *chosen)
        )

    told = zip(
        *(rows[name].to_pylist() for name in ("media_type", "source", "access")), strict=True
    )
    rests = [rest(media_type, source, tuple(access or ())) for media_type, source, access in told]
    facts: list[Any] = []
    for name in _LIGHT:
        facts += [json_of(rows[name]), ","]
    before = encode([versions, how.max_text_chars, how.quality_filter])[:-1]
    texts = joined(f"{before},[", *facts[:-1], "]", pa.array(rests, pa.string()), "]")
    return dict(zip(rows["uri"].to_pylist(), names_of(texts), strict=True))


def _without(table: pa.Table, uris: set[str]) -> pa.Table:
    return chosen_rows(table, uris, but=True) if uris else table


def _is_smaller(
    shard: str,
    present: Mapping[str, str],
    held: Mapping[str, str],
    in_quarantine: Mapping[str, dict[str, Any]],
) -> bool:
    """Whether a document of the shard has gone since it was last looked at."""
    known = held.keys() | {uri for uri, row in in_quarantine.items() if row["shard"] == shard}
    return not known <= present.keys()


def _refusal_digest(input_digest: str, reason: str, limits: ParserLimits) -> str:
    """Names what a refusal was made from; where the limits may be to blame, them too.

    So raising one has the documents parsed again that it stopped, and no others.
    """
    return digest_of(input_digest, limits.digest) if reason in LIMIT_REASONS else input_digest


def _blocks(documents: pa.Table, work: _Work, *, apart: bool) -> list[list[dict[str, Any]]]:
    """The changed documents of a shard with their bytes: all together, or a task's worth each."""
    rows = documents.to_pylist()
    for row in rows:
        row["input_digest"] = work.changed[row["uri"]]
    if not apart:
        return [rows]
    return list(in_blocks(rows, lambda row: len(row["content"]), most=BLOCK, most_size=BLOCK_BYTES))


def clean_apart(how: Cleaning, made_by: Sequence[Any], rows: Sequence[dict[str, Any]]) -> Cleaned:
    """What becomes of some documents, in a worker: by a confined parser process of its own.

    Args:
        made_by: what the process that asks would make them by.
        rows: of `raw_documents`, with the digest of what the cleaned document is made from.

    Raises:
        HeadwaterError: this worker would make other documents of them.
    """
    refuse_unlike("versions or programs", list(made_by), how.made_by())
    return _cleaned(how, rows, pool=_own_pool(how.limits))


@cache
def _own_pool(limits: ParserLimits) -> ParserPool:
    """The parser process of a worker, which ends with it."""
    return ParserPool(limits)


def _cleaned(how: Cleaning, rows: Sequence[dict[str, Any]], *, pool: ParserPool) -> Cleaned:
    """Parse some documents and look at their texts."""
    documents = [
        Unparsed(
            content=row["content"],
            media_type=row["media_type"],
            uri=row["uri"],
            max_chars=how.max_text_chars,
        )
        for row in rows
    ]
    accepted: list[dict[str, Any]] = []
    refused: list[Quarantined] = []
    notes: list[tuple[str, str]] = []
    for row, parsed in zip(rows, _outcomes(documents, pool), strict=True):
        base = {name: row[name] for name in (*_KNOWN, *_TOLD)}
        policy = how.personal.of(row["source"])
        if isinstance(parsed, Rejected):
            reason, detail = parsed.reason, parsed.detail
            if policy and policy.redact:  # it may quote the document
                detail = redacted(detail, policy.kinds)
            base["input_digest"] = _refusal_digest(base["input_digest"], reason, pool.limits)
            refused.append(Quarantined(**base, stage="clean", reason=reason, detail=detail))
            continue
        notes += [(row["uri"], note) for note in parsed.notes]
        outcome = _judged(parsed, base, how.quality_filter, policy)
        if isinstance(outcome, Quarantined):
            refused.append(outcome)
        else:
            accepted.append(_row(outcome))
    return Cleaned(rows_to_table("clean_documents", accepted), refused, notes)


def _row(document: CleanDocument) -> dict[str, Any]:
    """As `asdict`, which copies every number of it, at a tenth of the time."""
    row = {name: getattr(document, name) for name in _COLUMNS}
    row["headings"] = [asdict(heading) for heading in document.headings]
    if document.personal_data is not None:
        row["personal_data"] = [asdict(count) for count in document.personal_data]
    return row


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
        detail = "; ".join(map(str, failed))
        return Quarantined(**base, stage="filter", reason=failed[0].name, detail=detail)
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
    lake: Lake, shard: str, keep: set[str], new: pa.Table, rules: Suite
) -> Iterator[Quarantined]:
    """Documents of a shard that fail the suite: single ones, or all where they fail together.

    Asked of all that the shard would hold, so the answer depends on nothing that was before.
    """
    columns = [*DOCUMENT_COLUMNS, "access"]
    stored = chosen_rows(lake.snapshot("clean_documents").partition(shard, columns), keep)
    table = pa.concat_tables([stored, new.select(columns)]).sort_by("uri")
    if not table.num_rows:
        return
    found = broken(rules, document_table(table, rules))
    together = f"all of shard {shard}: {'; '.join(found.together)}" if found.together else ""
    for row in table.select([*_KNOWN, *_TOLD]).to_pylist():
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
    for each, outcome in zip(documents, pool.stream(documents), strict=True):
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
    letters = islice(filter(str.isalpha, sample), _FEWEST_LETTERS)
    if sum(1 for _ in letters) < _FEWEST_LETTERS:
        return "und"
    return str(_identifier().classify(sample)[0])


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE)


def records_of(rows: pa.Table) -> list[CleanDocument]:
    """Documents (`RECORD`) as records, by URI; without what tells duplicates."""
    documents = [
        CleanDocument(**{**row, "headings": tuple(Heading(**h) for h in row["headings"])})
        for row in rows.to_pylist()
    ]
    return sorted(documents, key=lambda document: document.uri)
