"""The training set: rows with their sources, no leak, no passage on both sides, few changes."""

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pytest

from headwater.datasets.firewall import leaks
from headwater.datasets.golden import read_golden
from headwater.datasets.sft import SftStats, build_sft_dataset, read_rows
from headwater.errors import HeadwaterError
from headwater.lake import Lake, rows_to_table
from headwater.records import GoldenItem, Hit, digest_of, shard_of

SUBJECTS = re.findall(
    r"\w+",
    "boiler valve pump gasket lever spout grinder filter basket drawer lamp switch kettle hose "
    "piston spring gauge funnel tray hopper",
)


def chunk(document: str, ordinal: int, heading: str, text: str) -> dict[str, object]:
    uri = f"manual:///{document}.html"
    return {
        "id": digest_of(uri, ordinal, text)[:16],
        "uri": uri,
        "source": "manual",
        "shard": shard_of(uri, 16),
        "ordinal": ordinal,
        "start": 0,
        "end": len(text),
        "title": document,
        "heading": f"{document} > {heading}",
        "text": text,
        "tokens": 20,
        "embed_digest": digest_of(heading, text),
        "digest": digest_of(text),
        "input_digest": "i",
    }


def manual(changed: str = "") -> list[dict[str, object]]:
    """A document for each subject, two chunks each; one of them can say something else."""
    rows = []
    for name in SUBJECTS:
        verb = "polished" if name == changed else "cleaned"
        rows += [
            chunk(name, 0, f"About the {name}", f"A {name} is a part that every machine has."),
            chunk(name, 1, "Care", f"The {name} must be {verb} after {len(name)} days of use."),
        ]
    return rows


class Overlap:
    """Retrieval by shared words over the chunks of a lake."""

    def __init__(self, lake: Lake) -> None:
        self.chunks = lake.read("document_shards").to_pylist()
        self.asked = 0

    def retrieve_many(self, questions: Sequence[str], *, limit: int) -> list[list[Hit]]:
        self.asked += len(questions)
        return [self._retrieve(question, limit) for question in questions]

    passages_many = retrieve_many

    def _retrieve(self, question: str, limit: int) -> list[Hit]:
        def score(chunk: dict[str, str]) -> int:
            both = f"{chunk['heading']} {chunk['text']}".lower()
            return len(set(re.findall(r"\w+", question.lower())) & set(re.findall(r"\w+", both)))

        ranked = sorted(self.chunks, key=lambda chunk: (-score(chunk), chunk["id"]))
        fields = ("id", "uri", "title", "heading", "start", "end", "text")
        return [Hit(score=1.0, **{f: c[f] for f in fields}) for c in ranked[:limit]]


def fill(lake: Lake, chunks: list[dict[str, object]], golden: Sequence[GoldenItem] = ()) -> None:
    shards = sorted({str(row["shard"]) for row in chunks})
    lake.replace("document_shards", rows_to_table("document_shards", chunks), keys=shards)
    lake.overwrite("golden_set", rows_to_table("golden_set", map(asdict, golden)))


def build(lake: Lake, written: int = 0, max_rows: int = 60, ask: object = None) -> SftStats:
    return build_sft_dataset(
        lake,
        ask=ask or (lambda heading, text: None),  # type: ignore[arg-type]
        retriever=Overlap(lake),
        top_k=3,
        max_rows=max_rows,
        written_questions=written,
    )


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(tmp_path)
    fill(lake, manual())
    return lake


def test_rows_tell_licence_and_tags_and_are_named_by_what_they_teach(lake: Lake) -> None:
    """A document's licence may change without a model being trained anew."""
    before = build(lake)
    assert {(row.licence, row.access) for row in read_rows(lake)} == {(None, None)}
    ids = [row.id for row in read_rows(lake)]
    fill(lake, [row | {"licence": "MIT", "access": ["hr"]} for row in manual()])
    assert build(lake) == before
    rows = read_rows(lake)
    assert {(row.licence, row.access) for row in rows} == {("MIT", ("hr",))}
    assert [row.id for row in rows] == ids
    taught = ("kind", "question", "answer", "chunk_id", "uri", "context", "split", "trace")
    for row in rows:
        named = {name: getattr(row, name) for name in taught}
        assert row.id == digest_of({**named, "id": ""}), "as before there were these columns"


def test_every_row_shows_its_own_chunk_in_its_context(lake: Lake) -> None:
    stats = build(lake)
    rows = read_rows(lake)
    chunks = {c["id"]: c for c in lake.read("document_shards").to_pylist()}
    assert len(rows) == stats.rows == sum(stats.by_kind.values()) > 20
    for row in rows:
        assert row.chunk_id in row.context
        assert len(row.context) == len(set(row.context)) == 3
        assert chunks[row.chunk_id]["uri"] == row.uri
        assert row.answer in chunks[row.chunk_id]["text"]


def test_a_chunk_that_is_not_retrieved_replaces_the_last_passage(lake: Lake) -> None:
    class Stubborn(Overlap):
        """Finds the same passages whatever is asked."""

        def _retrieve(self, question: str, limit: int) -> list[Hit]:
            return super()._retrieve("the same", limit)

    retriever = Stubborn(lake)
    found = [hit.id for hit in retriever._retrieve("", 3)]
    build_sft_dataset(
        lake, ask=lambda *_: None, retriever=retriever, top_k=3, max_rows=60, written_questions=0
    )
    for row in read_rows(lake):
        if row.chunk_id in found:
            assert list(row.context) == found
        else:
            assert list(row.context) == [*found[:2], row.chunk_id]


def test_the_splits_share_no_document(lake: Lake) -> None:
    stats = build(lake)
    rows = read_rows(lake)
    sides = {
        side: {row.uri for row in rows if row.split == side} for side in ("train", "validation")
    }
    assert stats.train > stats.validation > 0
    assert not sides["train"] & sides["validation"]


def test_the_same_input_gives_the_same_rows_and_no_new_version(lake: Lake) -> None:
    first = build(lake)
    version = lake.version("sft_dataset")
    assert build(lake) == first
    assert lake.version("sft_dataset") == version


def test_an_edited_document_changes_few_rows(lake: Lake) -> None:
    build(lake)
    before = {row.id for row in read_rows(lake)}
    fill(lake, manual(changed="pump"))
    build(lake)
    after = {row.id for row in read_rows(lake)}
    assert 0 < len(after - before) <= 0.15 * len(after)


def test_a_row_that_is_a_golden_item_is_left_out(lake: Lake) -> None:
    build(lake)
    leaked = read_rows(lake)[0]
    item = GoldenItem(
        id="g",
        question=f"Tell me: {leaked.question}",
        reference="Something in other words.",
        uris=(leaked.uri,),
        category="c",
        provisional=False,
    )
    assert leaks(read_rows(lake), [item])
    fill(lake, manual(), [item])
    stats = build(lake)
    assert stats.dropped_leaks >= 1
    assert leaks(read_rows(lake), read_golden(lake)) == []


def test_a_written_question_must_find_its_own_chunk(lake: Lake) -> None:
    def ask(heading: str, text: str) -> str:
        name = text.split()[1]
        if name < "h":  # its words are in the answer, but as well in every other one
            return "After how many days must it be cleaned?"
        return f"After how many days must the {name} be cleaned?"

    hits = Overlap(lake)._retrieve("After how many days must it be cleaned?", 5)
    found = {hit.uri for hit in hits}
    stats = build(lake, written=40, ask=ask)
    rows = [row for row in read_rows(lake) if row.kind == "written"]
    assert stats.written_tried == 40
    assert 0 < stats.written_kept == len(rows) < 40
    assert {row.uri for row in rows if "must it" in row.question} <= found
    assert {name for name in SUBJECTS if name >= "h"} <= {row.question.split()[6] for row in rows}


ASKED = [
    "When is a hopper cleaned, how many days pass?",
    "After how many days of use must the gauge be cleaned?",
    "What is the weather in Oslo today?",
]


def with_asked(lake: Lake, asked: Sequence[str], max_rows: int = 20) -> SftStats:
    return build_sft_dataset(
        lake, ask=lambda *_: None, retriever=Overlap(lake), top_k=3, max_rows=max_rows,
        written_questions=0, asked=asked,
    )  # fmt: skip


def test_users_questions_are_answered_by_a_chunk_or_left_out(lake: Lake) -> None:
    stats = with_asked(lake, ASKED)
    chunks = {c["id"]: c for c in lake.read("document_shards").to_pylist()}
    rows = [row for row in read_rows(lake) if row.kind == "asked"]
    assert {row.question for row in rows} == set(ASKED[:2])
    assert stats.by_kind["asked"] == 2
    for row in rows:
        assert row.answer in chunks[row.chunk_id]["text"] and row.chunk_id in row.context
        assert re.findall("hopper|gauge", row.question)[0] in row.uri


def test_what_users_asked_about_is_taught_first_and_the_rest_still(lake: Lake) -> None:
    many = [f"After how many days of use must the {name} be cleaned?" for name in SUBJECTS]
    stats = with_asked(lake, many, max_rows=16)
    assert stats.rows == 16 and stats.by_kind["asked"] == 8
    plain = build(lake, max_rows=16)
    assert "asked" not in plain.by_kind


def test_a_users_question_that_is_golden_is_left_out(lake: Lake) -> None:
    item = GoldenItem(
        id="g", question=ASKED[1], reference="In other words.", uris=("manual:///gauge.html",),
        category="c", provisional=False,
    )  # fmt: skip
    fill(lake, manual(), [item])
    stats = with_asked(lake, ASKED)
    assert stats.by_kind["asked"] == 1 and stats.dropped_leaks >= 1
    assert leaks(read_rows(lake), read_golden(lake)) == []


def test_no_more_rows_than_asked_for(lake: Lake) -> None:
    assert build(lake, max_rows=7).rows == 7


def test_retrieval_runs_only_for_rows_that_are_kept(lake: Lake) -> None:
    retriever = Overlap(lake)
    build_sft_dataset(
        lake, ask=lambda *_: None, retriever=retriever, top_k=3, max_rows=10, written_questions=0
    )
    assert retriever.asked == 10


def test_a_passage_in_two_documents_gives_one_row(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    text = "A thermostat is a part that keeps the water warm."
    fill(lake, [chunk("one", 0, "Heat", text), chunk("two", 0, "Heat", text)])
    build(lake)
    assert len({row.chunk_id for row in read_rows(lake) if row.kind == "definition"}) == 1


def test_a_tiny_corpus_still_gives_rows(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    fill(lake, [chunk("note", 0, "Snow", "Snow was falling.")])
    stats = build(lake)
    assert stats.by_kind["location"] == stats.rows >= 4
    assert stats.train == stats.rows


def test_an_empty_corpus_is_told_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(HeadwaterError, match="Add a source"):
        build(Lake(tmp_path))
