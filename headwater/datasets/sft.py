"""`sft_dataset`: question-answer rows made from the chunks, for supervised fine-tuning.

Each row names its source chunk and the passages its prompt shows, which are those that serving
would retrieve. Corrections that people gave come first, with the trace they correct. Rows close to
a golden question are left out, and restricted documents are neither asked about nor shown. Chunks
are taken in the order of a hash of their text, so that an edited document changes few rows.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import zip_longest
from typing import Any, Protocol

from headwater.datasets.extract import Pair, best_sentences, locations, pairs
from headwater.datasets.feedback import read_corrections
from headwater.datasets.firewall import leaks
from headwater.datasets.golden import read_golden
from headwater.datasets.restricted import restricted_documents
from headwater.datasets.sentences import paragraphs
from headwater.errors import HeadwaterError
from headwater.lake import Lake, rows_to_table
from headwater.progress import track
from headwater.records import GoldenItem, Hit, TrainingRow, digest_of

STAGE_VERSION = "sft/4"
#: One document in this many is held out for validation.
_VALIDATION_EVERY = 12
#: A written question must retrieve its own chunk among this many.
ROUND_TRIP = 5
#: With fewer rows than this, rows of kind "location" are added.
FEWEST = 24
_KINDS = ("signature", "definition", "heading", "detail")
_COLUMNS = ["id", "uri", "ordinal", "title", "heading", "text", "embed_digest", "licence", "access"]
#: Columns that tell of a row's document, and are no part of the row's name: they teach nothing.
_TOLD = ("licence", "access")

#: (heading, text) -> a question that the text answers, or None.
Ask = Callable[[str, str], str | None]
log = logging.getLogger("headwater")


class Retrieves(Protocol):
    """What making rows needs of retrieval; `headwater.embeddings.retrieve.Retriever` is one."""

    def retrieve_many(self, questions: Sequence[str], *, limit: int) -> list[list[Hit]]: ...

    def passages_many(self, questions: Sequence[str], *, limit: int) -> list[list[Hit]]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SftStats:
    """What was made; `written_*` count questions of the base model, `dropped_leaks` rows.

    `dropped_gone` counts corrections none of whose passages is in the corpus any more.
    """

    rows: int
    by_kind: dict[str, int]
    train: int
    validation: int
    dropped_leaks: int
    dropped_gone: int
    written_kept: int
    written_tried: int
    digest: str


@dataclass(frozen=True, slots=True)
class _Candidate:
    chunk: dict[str, Any]
    pair: Pair
    trace: str | None = None


def build_sft_dataset(
    lake: Lake,
    *,
    ask: Ask,
    retriever: Retrieves,
    top_k: int,
    max_rows: int,
    written_questions: int,
    seed: int = 0,
    asked: Sequence[str] = (),
) -> SftStats:
    """Make the rows anew and write the table if they differ from what it holds.

    Args:
        ask: writes a question about a passage.
        top_k: passages that a prompt shows.
        max_rows: rows at most, of all kinds.
        written_questions: passages that `ask` is tried on.
        asked: questions of users that were answered poorly, the most wanted first. Those that a
            chunk answers become rows, and what else their chunks state comes first; together at
            most half of the rows, so that what was known is taught on.

    Raises:
        HeadwaterError: the documents hold nothing to ask about.
    """
    restricted = restricted_documents(lake)
    rows = _chunk_rows(lake, restricted)
    chunks = _distinct_chunks(rows, seed)
    corrected, gone = _corrected(lake, rows, restricted)
    askable = [chunk for chunk in chunks if paragraphs(chunk["text"])][:written_questions]
    written = list(_written(askable, ask, retriever))
    stated = _in_turns(_stated(chunks))
    wanted = list(_wanted(asked, chunks, retriever))[: max_rows // 2]
    golden = read_golden(lake)
    clean, leaking = _without_leaks(_distinct([*corrected, *wanted, *written, *stated]), golden)
    if len(clean) < min(FEWEST, max_rows):
        more, leaking_more = _without_leaks(_distinct(_located(chunks)), golden)
        clean, leaking = [*clean, *more[: FEWEST - len(clean)]], leaking + leaking_more
    clean = clean[:max_rows]
    texts = {chunk["id"]: chunk["text"] for chunk in rows}
    kept = _with_both_splits(_with_context(clean, texts, retriever, top_k, restricted))
    if not kept:
        raise HeadwaterError(
            "The documents hold no sentences to make training rows of.",
            mend="Add a source with running text, then build again.",
        )
    table = rows_to_table("sft_dataset", (asdict(row) for row in kept))
    if lake.read("sft_dataset") != table:
        lake.overwrite("sft_dataset", table)
    kinds = Counter(row.kind for row in kept)
    return SftStats(
        rows=len(kept),
        by_kind=dict(sorted(kinds.items())),
        train=sum(row.split == "train" for row in kept),
        validation=sum(row.split == "validation" for row in kept),
        dropped_leaks=leaking,
        dropped_gone=gone,
        written_kept=kinds["written"],
        written_tried=len(askable),
        digest=digest_of(STAGE_VERSION, sorted(row.id for row in kept)),
    )


def answered(lake: Lake, asked: Sequence[str], retriever: Retrieves) -> list[tuple[str, str]]:
    """Those of some questions that a chunk answers, each with the answer extracted from it."""
    chunks = _distinct_chunks(_chunk_rows(lake, restricted_documents(lake)), seed=0)
    found = _wanted(asked, chunks, retriever)
    return [(each.pair.question, each.pair.answer) for each in found if each.pair.kind == "asked"]


def read_rows(lake: Lake) -> list[TrainingRow]:
    """The rows of the table, in order of id."""
    rows = lake.read("sft_dataset").to_pylist()
    found = (
        TrainingRow(
            **{
                **row,
                "context": tuple(row["context"]),
                "access": tuple(row["access"]) if row["access"] else None,
            }
        )
        for row in rows
    )
    return sorted(found, key=lambda row: row.id)


def _chunk_rows(lake: Lake, restricted: frozenset[str]) -> list[dict[str, Any]]:
    """Chunks that may teach, by document and place; `opens_section` marks a heading's first."""
    stored = lake.read("document_shards", columns=_COLUMNS).to_pylist()
    rows = [row for row in stored if row["uri"] not in restricted]
    rows.sort(key=lambda row: (row["uri"], row["ordinal"]))
    opened: set[tuple[str, str]] = set()
    for row in rows:
        section = (row["uri"], row["heading"])
        row["opens_section"] = section not in opened
        opened.add(section)
    return rows


def _distinct_chunks(rows: Iterable[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """One chunk for each distinct text, in an order that other documents do not change."""
    distinct: dict[str, dict[str, Any]] = {}
    for row in rows:
        distinct.setdefault(row["embed_digest"], row)
    return sorted(distinct.values(), key=lambda row: digest_of(seed, row["embed_digest"]))


def _corrected(
    lake: Lake, rows: Iterable[dict[str, Any]], restricted: frozenset[str]
) -> tuple[list[_Candidate], int]:
    """Corrections on the first chunk of their trace that still exists, and how many have none.

    One of an answer that was given from a restricted passage may repeat it: it counts as none.
    """
    chunks = {row["id"]: row for row in rows}
    corrections = read_corrections(lake)
    found = []
    for given in corrections:
        if not restricted.isdisjoint(given.uris):
            continue
        chunk = next((chunks[id] for id in given.chunk_ids if id in chunks), None)
        if chunk is not None:
            pair = Pair(kind="correction", question=given.question, answer=given.correction)
            found.append(_Candidate(chunk, pair, given.trace))
    return found, len(corrections) - len(found)


def _stated(chunks: Iterable[dict[str, Any]]) -> dict[str, list[_Candidate]]:
    """What the chunks state by themselves, by kind: the first of every chunk, then the second."""
    turns: dict[str, list[tuple[int, _Candidate]]] = {kind: [] for kind in _KINDS}
    for chunk in chunks:
        heading = chunk["heading"] or chunk["title"]
        taken: Counter[str] = Counter()
        for pair in pairs(heading, chunk["text"], opens_section=chunk["opens_section"]):
            turns[pair.kind].append((taken[pair.kind], _Candidate(chunk, pair)))
            taken[pair.kind] += 1
    return {
        kind: [each for _, each in sorted(found, key=lambda entry: entry[0])]
        for kind, found in turns.items()
    }


def _in_turns(by_kind: Mapping[str, Sequence[_Candidate]]) -> Iterator[_Candidate]:
    """One of each kind in turn, until all are used."""
    for turn in zip_longest(*by_kind.values()):
        yield from (candidate for candidate in turn if candidate is not None)


def _located(chunks: Iterable[dict[str, Any]]) -> Iterator[_Candidate]:
    """Where things are described: the first form for every heading, then the second."""
    found = [
        (at, _Candidate(chunk, pair))
        for chunk in chunks
        if chunk["opens_section"]
        for at, pair in enumerate(locations(chunk["title"], chunk["heading"] or chunk["title"]))
    ]
    return (each for _, each in sorted(found, key=lambda entry: entry[0]))


def _without_leaks(
    candidates: Iterable[_Candidate], golden: Sequence[GoldenItem]
) -> tuple[list[TrainingRow], int]:
    """Rows of the candidates that are far from every golden item, and how many were not."""
    rows = [_row(candidate) for candidate in candidates]
    leaking = {leak.row_id for leak in leaks(rows, golden)}
    return [row for row in rows if row.id not in leaking], len(leaking)


def _written(
    chunks: Sequence[dict[str, Any]], ask: Ask, retriever: Retrieves
) -> Iterator[_Candidate]:
    """Questions that the base model wrote and that retrieve their own chunk."""
    tried = []
    for chunk in track(chunks, what="writing questions"):
        heading, text = chunk["heading"] or chunk["title"], chunk["text"]
        question = ask(heading, text)
        answer = best_sentences(question, heading, text) if question else None
        if question and answer:
            pair = Pair(kind="written", question=question, answer=answer)
            tried.append(_Candidate(chunk, pair))
    if not tried:
        return
    found = retriever.retrieve_many([each.pair.question for each in tried], limit=ROUND_TRIP)
    for candidate, hits in zip(tried, found, strict=True):
        if _place(candidate.chunk["id"], candidate.chunk["text"], hits) is not None:
            yield candidate


def _wanted(
    asked: Sequence[str], chunks: Sequence[dict[str, Any]], retriever: Retrieves
) -> Iterator[_Candidate]:
    """Users' questions that a retrieved chunk answers, then what the chunks found first state."""
    if not asked:
        return
    by_text = {_folded(chunk["text"]): chunk for chunk in chunks}
    first: dict[str, dict[str, Any]] = {}
    for question, hits in zip(asked, retriever.retrieve_many(asked, limit=ROUND_TRIP), strict=True):
        found = [by_text[text] for text in (_folded(hit.text) for hit in hits) if text in by_text]
        for chunk in found[:1]:
            first.setdefault(chunk["id"], chunk)
        for chunk in found:
            answer = best_sentences(question, chunk["heading"] or chunk["title"], chunk["text"])
            if answer:
                yield _Candidate(chunk, Pair(kind="asked", question=question, answer=answer))
                break
    yield from _in_turns(_stated(first.values()))


def _distinct(candidates: Iterable[_Candidate]) -> list[_Candidate]:
    """The first candidate of each question and of each answer."""
    questions: set[str] = set()
    answers: set[str] = set()
    kept = []
    for candidate in candidates:
        question, answer = candidate.pair.question.casefold(), candidate.pair.answer.casefold()
        if question not in questions and answer not in answers:
            questions.add(question)
            answers.add(answer)
            kept.append(candidate)
    return kept


def _row(candidate: _Candidate) -> TrainingRow:
    """The row of a candidate, with its own chunk alone as context."""
    chunk, pair = candidate.chunk, candidate.pair
    row = TrainingRow(
        id="",
        kind=pair.kind,
        question=pair.question,
        answer=pair.answer,
        chunk_id=chunk["id"],
        uri=chunk["uri"],
        context=(chunk["id"],),
        split=_split(chunk["uri"]),
        trace=candidate.trace,
        licence=chunk["licence"],
        access=tuple(chunk["access"]) if chunk["access"] else None,
    )
    return _named(row)


def _named(row: TrainingRow) -> TrainingRow:
    """The row, named by what it teaches."""
    taught = {
        name: value for name, value in asdict(replace(row, id="")).items() if name not in _TOLD
    }
    return replace(row, id=digest_of(taught))


def _with_context(
    rows: Sequence[TrainingRow],
    texts: Mapping[str, str],
    retriever: Retrieves,
    top_k: int,
    restricted: frozenset[str],
) -> list[TrainingRow]:
    """Rows with the passages that serving would show, but for restricted ones.

    A row's own chunk is always among them.
    """
    if not rows:
        return []
    found = retriever.passages_many([row.question for row in rows], limit=top_k)
    shown = []
    for row, hits in zip(rows, found, strict=True):
        place = _place(row.chunk_id, texts[row.chunk_id], hits)
        # Where the same text is found in another document, it is from the one that the row names.
        context = [
            row.chunk_id if at == place else hit.id
            for at, hit in enumerate(hits)
            if at == place or hit.uri not in restricted
        ]
        if place is None:
            context = [*context[: top_k - 1], row.chunk_id]
        shown.append(_named(replace(row, context=tuple(context))))
    return shown


def _place(chunk_id: str, text: str, hits: Sequence[Hit]) -> int | None:
    """Where a chunk, or another with the same text, stands among hits."""
    text = _folded(text)
    for at, hit in enumerate(hits):
        if hit.id == chunk_id or _folded(hit.text) == text:
            return at
    return None


def _folded(text: str) -> str:
    return " ".join(text.split())


def _split(uri: str) -> str:
    """By document, so that no passage is on both sides."""
    held_out = int(digest_of("split", uri)[:8], 16) % _VALIDATION_EVERY == 0
    return "validation" if held_out else "train"


def _with_both_splits(rows: list[TrainingRow]) -> list[TrainingRow]:
    """Few documents may all fall on one side; training rows come first then."""
    if rows and not any(row.split == "train" for row in rows):
        log.warning("all training rows are of held-out documents; training on them")
        rows = [replace(row, split="train") for row in rows]
    return rows
