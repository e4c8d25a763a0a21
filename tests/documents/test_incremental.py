"""Work is proportional to change, through all three stages."""

import shutil
from operator import itemgetter
from random import Random
from threading import current_thread

import pytest

from headwater import snapshot
from headwater.documents import stage as stages
from headwater.documents.chunk import shard_documents
from headwater.documents.clean import OUTPUT, clean_documents
from headwater.documents.contents import RowMemory
from headwater.documents.duplicates import find_duplicates, survivors
from headwater.documents.quality import validate_chunks, validate_documents
from headwater.documents.raw import update_raw
from headwater.documents.sources import DEFAULT_SOURCES
from headwater.fresh import Fresh
from headwater.lake import Lake, rows_to_table
from tests.documents.examples import MODEL, PROSE, SHARDS, Corpus

TABLES = ("raw_documents", "clean_documents", "document_shards")


def embed_digests(corpus: Corpus):
    return {row["embed_digest"] for row in corpus.rows("document_shards")}


def test_nothing_changed_does_nothing(three: Corpus):
    first = three.build()
    versions = [three.lake.version(table) for table in (*TABLES, "quarantine")]
    again = three.build()
    assert [stage.processed for stage in again] == [0, 0, 0]
    assert [stage.shards_written for stage in again] == [(), (), ()]
    assert [stage.digest for stage in again] == [stage.digest for stage in first]
    assert [stage.shard_digests for stage in again] == [stage.shard_digests for stage in first]
    assert [three.lake.version(table) for table in (*TABLES, "quarantine")] == versions


def test_an_edit_of_whitespace_changes_nothing_downstream(three: Corpus):
    first = three.build()
    for name in ("guide.html", "notes.md", "plain.txt"):
        text = (three.folder / name).read_text()
        spaced = (
            text.replace("\n", "  \n").replace("\n  \n", "\n\n\n \n").replace("</p>", " </p>\n")
        )
        assert spaced != text
        three.write(name, spaced + "\n\n")
    raw, clean, chunk = three.build()
    assert (raw.processed, clean.processed) == (3, 3)
    assert (chunk.processed, chunk.shards_written) == (0, ())
    assert clean.digest == first[1].digest
    assert chunk.digest == first[2].digest


def test_an_edit_of_one_paragraph_processes_one_document(three: Corpus):
    three.build()
    before = embed_digests(three)
    page = (three.folder / "guide.html").read_text()
    three.write("guide.html", page.replace("twelve crowns", "fifteen crowns"))
    stats = three.build()
    assert [stage.processed for stage in stats] == [1, 1, 1]
    assert [stage.reused for stage in stats] == [2, 2, 2]
    assert all(len(stage.shards_written) == 1 for stage in stats)
    assert len(embed_digests(three) - before) == 1


def test_a_removed_document_goes_everywhere(three: Corpus):
    three.build()
    (three.folder / "guide.html").unlink()
    stats = three.build()
    assert [stage.removed for stage in stats] == [1, 1, 1]
    for table in TABLES:
        assert "docs:///guide.html" not in {row["uri"] for row in three.rows(table)}


def test_digests_do_not_depend_on_history_or_time(three: Corpus):
    three.build()
    three.write("notes.md", "# Other\n\nText that will go again.\n")
    three.write("late.txt", "A document that came later and stays in the harbour.")
    three.build()
    three.write("notes.md", "# Final\n\nText that stays in the harbour for good.\n")
    last = three.build()
    fresh = Corpus(three.folder, Lake(three.lake.root.parent / "fresh"))
    assert [stage.digest for stage in fresh.build()] == [stage.digest for stage in last]


def test_what_a_stage_says_of_its_rows_is_what_its_table_holds(twelve: Corpus):
    twelve.write("3.txt", (twelve.folder / "3.txt").read_bytes() + b" Another sentence.")
    (twelve.folder / "7.txt").unlink()
    told = twelve.build()
    assert all(stage.shards_written for stage in told)
    shutil.rmtree(twelve.lake.root / ".digests")
    found = twelve.build()  # takes them from the tables, and writes nothing
    assert not any(stage.shards_written for stage in found)
    assert [stage.digest for stage in told] == [stage.digest for stage in found]
    assert [stage.shard_digests for stage in told] == [stage.shard_digests for stage in found]


def test_shards_done_one_by_one_give_the_same_tables(three: Corpus):
    whole = three.build()
    lake = Lake(three.lake.root.parent / "piecewise")
    for shard in SHARDS:
        raw = update_raw(lake, [three.source], [shard], 4, 2**20)
        clean = clean_documents(lake, [shard], 2**20)
        chunk = shard_documents(lake, [shard], 64, MODEL)
    assert [raw.digest, clean.digest, chunk.digest] == [stage.digest for stage in whole]


def test_per_shard_counts_sum_to_the_whole(three: Corpus):
    for stage in three.build():
        for name in ("seen", "processed", "reused", "quarantined", "removed"):
            total = sum(count[name] for count in stage.per_shard.values())
            assert total == getattr(stage, name)
    assert sum(count["chunks"] for count in stage.per_shard.values()) == stage.chunks


def test_the_default_corpus_is_indexed_whole(tmp_path):
    lake = Lake(tmp_path / "lake")
    keys = [f"{number:02x}" for number in range(16)]
    update_raw(lake, DEFAULT_SOURCES, keys, 16, 2**20)
    clean = clean_documents(lake, keys, 2**22)
    duplicates = find_duplicates(lake, 0.8)
    chunk = shard_documents(lake, keys, 160, MODEL)
    assert clean.quarantined == 0
    # Python prints the same page for `help("if")` and `help("else")`.
    assert survivors(lake) == {"pydoc://topics/else": "pydoc://topics/if"}
    assert clean.seen == duplicates.documents == chunk.seen + 1 > 60
    rows = lake.read("document_shards").to_pylist()
    tokens = [row["tokens"] for row in rows]
    assert max(tokens) <= 160
    assert sum(count < 40 for count in tokens) < 0.02 * len(tokens)
    assert {row["language"] for row in lake.read("clean_documents").to_pylist()} == {"en"}
    headings = {row["heading"] for row in rows}
    assert "Special method names > Basic customization > object.__repr__(self)" in headings


def sixty(corpus: Corpus) -> Corpus:
    """As many documents that an edit of some leaves most rows of a shard as they are."""
    for number in range(60):
        corpus.write(f"{number}.txt", text_of(number))
    return corpus


def text_of(number: int, words: int = 60) -> str:
    own = " ".join(f"w{number}x{at}" for at in range(words))
    return f"Document {number}. {PROSE}\n\n{own}."


def edit(corpus: Corpus, random: Random) -> None:
    """Some documents come, go, or change: their text, a copy of another one, or nothing but spaces."""
    names = sorted(path.name for path in corpus.folder.iterdir())
    for name in random.sample(names, 5):
        path, kind = corpus.folder / name, random.randrange(5)
        if kind == 0:
            path.unlink()
        elif kind == 1:
            path.write_bytes((corpus.folder / random.choice(names[:3])).read_bytes())
        elif kind == 2:
            path.write_text(path.read_text() + "  \n")
        elif kind == 3:
            path.write_text("\0" * 40)  # is turned away
        else:
            path.write_text(path.read_text() + f" And edited {random.random()}.")
        for kept in names[:3]:
            if not (corpus.folder / kept).exists():
                corpus.write(kept, text_of(random.randrange(1000, 2000)))
    corpus.write(f"new-{random.random()}.txt", text_of(random.randrange(100, 1000)))


@pytest.mark.parametrize("seed", range(3))
def test_what_is_held_of_the_stage_before_changes_nothing(corpus: Corpus, monkeypatch, seed: int):
    random = Random(seed)
    alike = Corpus(sixty(corpus).folder, Lake(corpus.lake.root.parent / "alike"))

    def build(lake: Lake, held: Fresh):
        monkeypatch.setattr(stages, "FRESH", held)
        monkeypatch.setattr(snapshot, "FRESH", held)
        told = Corpus(corpus.folder, lake).build()
        asked = [validate_documents(lake), validate_chunks(lake, 64)]
        return told, [(each.success, each.shards, each.statistics) for each in asked]

    fresh, used = Fresh(), 0
    for _ in range(4):
        (told, asked), (expected, expected_asked) = (
            build(corpus.lake, fresh),
            build(alike.lake, Fresh(most=0)),
        )
        assert asked == expected_asked
        for mine, other in zip(told, expected, strict=True):
            assert mine == other
        for table in TABLES:
            key = itemgetter("uri") if table != "document_shards" else itemgetter("uri", "ordinal")
            assert sorted(corpus.rows(table), key=key) == sorted(alike.rows(table), key=key)
        used += len(fresh._steps)
        edit(corpus, random)
    assert used, "nothing was held, so nothing was tried"
    again = Corpus(corpus.folder, Lake(corpus.lake.root.parent / "again"))
    assert [each.digest for each in corpus.build()] == [each.digest for each in again.build()]


def test_an_edit_reads_no_text_of_the_documents_that_stay(corpus: Corpus, monkeypatch):
    sixty(corpus).build()
    corpus.write("7.txt", text_of(7) + " And edited.")
    read, let_go, real = list[str](), list[str](), snapshot.read_partition_file

    def noted(path, schema, *rest, **options):
        # Who puts a shard together needs all of it, once.
        if current_thread().name.startswith("writing"):
            let_go.extend(options["let_go"])
        else:
            read.extend(schema.names)
        return real(path, schema, *rest, **options)

    corpus.raw()
    monkeypatch.setattr(snapshot, "read_partition_file", noted)
    assert corpus.clean().processed == 1
    corpus.duplicates()
    assert corpus.chunk().processed == 1
    assert read and not {"content", "text", "headings"} & set(read)
    assert {"content", "text"} <= set(let_go)


def by_hand(corpus: Corpus, table: str, name: str, **values) -> str:
    """Change the stored rows of a document, as a restore or another program may; gives its shard."""
    rows = [row for row in corpus.rows(table) if row["uri"] == f"docs:///{name}"]
    shard = rows[0]["shard"]
    others = [row for row in corpus.rows(table) if row["shard"] == shard and row not in rows]
    changed = [row | values for row in rows]
    corpus.lake.replace(table, rows_to_table(table, [*others, *changed]), keys=[shard])
    return shard


def neighbour(corpus: Corpus, shard: str, *names: str) -> str:
    """The name of another document of a shard."""
    uris = (row["uri"] for row in corpus.rows("raw_documents") if row["shard"] == shard)
    return next(name for uri in uris if (name := uri.removeprefix("docs:///")) not in names)


@pytest.mark.parametrize("table", ["clean_documents", "document_shards"])
def test_rows_that_are_others_than_a_stage_left_are_compared(corpus: Corpus, table: str):
    first = sixty(corpus).build()
    shard = by_hand(corpus, table, "5.txt", input_digest="0" * 64, text="This is wrong.")
    beside = neighbour(corpus, shard, "5.txt")
    corpus.write(beside, (corpus.folder / beside).read_text() + " And edited.")
    corpus.build()
    assert "This is wrong." not in {row["text"] for row in corpus.rows(table)}
    corpus.write(beside, (corpus.folder / beside).read_text().removesuffix(" And edited."))
    assert [each.digest for each in corpus.build()] == [each.digest for each in first]


def test_digests_are_those_of_the_rows_that_are_there(corpus: Corpus):
    sixty(corpus).build()
    shard = by_hand(corpus, "clean_documents", "5.txt", language="xx")
    beside = neighbour(corpus, shard, "5.txt")
    corpus.write(beside, (corpus.folder / beside).read_text() + " And edited.")
    told = corpus.build()[1]
    assert "xx" in {row["language"] for row in corpus.rows("clean_documents")}
    shutil.rmtree(corpus.lake.root / ".digests")
    assert corpus.build()[1].digest == told.digest


def test_damaged_digests_are_not_believed(corpus: Corpus):
    sixty(corpus).build()
    (kept,) = (corpus.lake.root / ".digests").glob("clean*.arrow")
    sound, random = kept.read_bytes(), Random(5)
    files = corpus.lake.snapshot("clean_documents").files
    columns, where_given = OUTPUT.columns, OUTPUT.where_given

    def remembered() -> dict[str, bytes | None]:
        memory = RowMemory(corpus.lake, "clean_documents", columns, where_given)
        found = {shard: memory.of(shard, files[shard]) for shard in files}
        return {shard: None if each is None else each.tobytes() for shard, each in found.items()}

    right = remembered()
    assert all(right.values())
    for _ in range(300):
        data = bytearray(sound)
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
        kept.write_bytes(data)
        assert all(found in (None, right[shard]) for shard, found in remembered().items())
    kept.write_bytes(sound[: len(sound) // 2])
    assert not any(remembered().values())
    corpus.write("7.txt", text_of(7) + " And edited.")
    told = corpus.build()[1]
    again = Corpus(corpus.folder, Lake(corpus.lake.root.parent / "again"))
    assert again.build()[1].digest == told.digest
