"""Which documents say the same, which one stays, and what an edit costs."""

import random
from dataclasses import replace
from itertools import pairwise

import pyarrow as pa
import pytest

from headwater.documents import chunk, duplicates
from headwater.documents.accounting import account
from headwater.documents.duplicates import COMPARED, Signed, ranks, survivors
from headwater.documents.raw import update_raw
from headwater.documents.signature import SIGNATURE_BYTES, signature, signatures
from headwater.documents.sources import FolderSource
from headwater.lake import Lake
from headwater.records import digest_of, shard_of
from tests.documents.examples import PROSE, Corpus


def resolve(documents: list[dict], threshold: float) -> list[dict]:
    table = pa.Table.from_pylist(documents, schema=COMPARED)
    return duplicates.resolve(table, Signed(signatures(table["signature"])), threshold)


FOOTER = "Printed from the handbook of the harbour. Ask the office before you rely on it. " * 2


class Writer:
    """Makes texts of a small vocabulary in which some words are frequent, and variants of them."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        letters = "abcdefghijklmnoprstuvw"
        self.words = ["".join(self.random.choices(letters, k=1 + n % 9)) for n in range(3000)]
        self.weights = [1 / (n + 5) for n in range(3000)]

    def text(self, words: int) -> list[str]:
        return self.random.choices(self.words, self.weights, k=words)

    def edited(self, words: list[str], share: float) -> list[str]:
        """Words replaced here and there, so that about `share` of the 5-grams go."""
        changed = list(words)
        for at in self.random.sample(range(len(words)), max(1, int(len(words) * share / 5))):
            changed[at] = "other" + changed[at]
        return changed

    def inserted(self, words: list[str], share: float) -> list[str]:
        at = self.random.randrange(len(words))
        return words[:at] + self.text(max(1, int(len(words) * share))) + words[at:]


def shingles(text: str) -> set[tuple[str, ...]]:
    words = text.lower().split()
    return {tuple(words[at : at + 5]) for at in range(len(words) - 4)}


def jaccard(one: str, other: str) -> float:
    a, b = shingles(one), shingles(other)
    return len(a & b) / len(a | b)


def document(uri: str, text: str, shards: int = 16) -> dict:
    return {
        "uri": uri,
        "source": "docs",
        "shard": shard_of(uri, shards),
        "folded_digest": digest_of(" ".join(text.split())),
        "signature": signature(text),
    }


def planted(seed: int) -> tuple[dict[str, str], dict[str, str]]:
    """Texts by URI, and the family of each: originals, near-duplicates, and near misses."""
    writer = Writer(seed)
    texts: dict[str, str] = {}
    families: dict[str, str] = {}

    def add(words: list[str], family: str, footer: str = "") -> str:
        uri = f"docs:///{writer.random.randrange(10**9)}.txt"
        texts[uri], families[uri] = f"{' '.join(words)} {footer}".strip(), family
        return uri

    for number in range(200):
        family = f"family {number}"
        words = writer.text(writer.random.randrange(150, 900))
        footed = FOOTER if number % 2 else ""
        original = add(words, family, footed)
        for kind in range(number % 4):
            if kind == 0:
                uri = add(writer.edited(words, writer.random.uniform(0.01, 0.08)), family, footed)
            elif kind == 1:
                uri = add(writer.inserted(words, writer.random.uniform(0.02, 0.12)), family, footed)
            else:
                uri = add([word.title() for word in words], family, "" if footed else "The end.")
            assert jaccard(texts[uri], texts[original]) > 0.8 or kind == 2
        if number % 3 == 0:  # another edition: much is the same, and much is not
            edition = writer.edited(words, writer.random.uniform(0.2, 0.4))
            uri = add(edition, f"edition {number}", footed)
            assert 0.35 < jaccard(texts[uri], texts[original]) < 0.73
    return texts, families


@pytest.mark.parametrize("seed", [1, 2])
def test_planted_near_duplicates_are_found_and_near_misses_left(seed: int):
    texts, families = planted(seed)
    rows = resolve([document(uri, text) for uri, text in texts.items()], 0.8)
    right = sum(families[row["uri"]] == families[row["survivor"]] for row in rows)
    to_find = len(texts) - len(set(families.values()))
    precision, recall = right / len(rows), right / to_find
    print(f"{to_find} to find: precision {precision:.3f}, recall {recall:.3f}")
    assert to_find > 250
    assert precision >= 0.95 and recall >= 0.95
    # Nobody stands in who is left out, and a duplicate shares with its survivor what it must.
    out = {row["uri"] for row in rows}
    assert not out & {row["survivor"] for row in rows}
    assert min(row["similarity"] for row in rows) >= 0.6
    estimates = [
        (row["similarity"], jaccard(texts[row["uri"]], texts[row["survivor"]])) for row in rows
    ]
    assert sum(found - true for found, true in estimates) / len(estimates) == pytest.approx(
        0, abs=0.02
    )


def test_the_survivor_depends_on_nothing_but_the_documents():
    texts, _ = planted(3)
    documents = [document(uri, text) for uri, text in texts.items()]
    rows = resolve(documents, 0.8)
    chosen = {row["uri"]: row["survivor"] for row in rows}
    for seed in range(5):
        shuffled = [{**each, "shard": shard_of(each["uri"], 2 + seed)} for each in documents]
        random.Random(seed).shuffle(shuffled)
        again = resolve(shuffled, 0.8)
        assert {row["uri"]: row["survivor"] for row in again} == chosen
    # One that arrives later and is called worse replaces nobody.
    survivor = next(iter(chosen.values()))
    late = document(f"{survivor}.a-copy-of-it.txt", texts[survivor])
    later = {row["uri"]: row["survivor"] for row in resolve([*documents, late], 0.8)}
    assert later == {**chosen, late["uri"]: survivor}


def test_the_shortest_path_stays_then_the_alphabet():
    uris = ["docs:///old/guide.md", "docs:///guide.md", "docs:///guidf.md", "wiki:///a/b/guide.md"]
    assert [uris[at] for at in ranks(pa.chunked_array([uris])).to_pylist()] == [
        "docs:///guide.md", "docs:///guidf.md", "docs:///old/guide.md", "wiki:///a/b/guide.md"
    ]  # fmt: skip
    rows = resolve([document(uri, PROSE) for uri in uris], 0.8)
    assert {row["survivor"] for row in rows} == {"docs:///guide.md"}
    assert {row["kind"] for row in rows} == {"exact"}


def test_a_chain_of_small_edits_does_not_end_in_one_document():
    """Each is like the next, the last has next to nothing of the first: both are indexed."""
    writer = Writer(4)
    words = writer.text(400)
    chain = [" ".join(words)]
    for _ in range(12):
        words = [*words[40:], *writer.text(40)]
        chain.append(" ".join(words))
    assert min(jaccard(a, b) for a, b in pairwise(chain)) > 0.8
    assert jaccard(chain[0], chain[-1]) < 0.01
    texts = {f"docs:///{step:02}.txt": text for step, text in enumerate(chain)}
    rows = resolve([document(uri, text) for uri, text in texts.items()], 0.75)
    assert len({row["cluster"] for row in rows}) == 1
    assert 2 < len(texts) - len(rows) < len(texts)
    for row in rows:
        assert jaccard(texts[row["uri"]], texts[row["survivor"]]) > 0.4


def test_texts_without_words_and_short_ones_are_told_apart():
    texts = ["§ §", "§", "¶", "one", "two", "one two", "one two three four five", "港は六時に開く"]
    documents = [document(f"docs:///{n}", text) for n, text in enumerate(texts)]
    assert all(len(each["signature"]) == SIGNATURE_BYTES for each in documents)
    assert resolve(documents, 0.8) == []
    assert resolve([], 0.8) == []


def test_scripts_without_spaces_are_compared_by_character():
    text = "港は朝六時に開き、最後の連絡船が出ると閉まります。遅れて着いた船は、翌日まで外の桟橋で待たなければなりません。"
    pair = signatures(pa.array([signature(text), signature(text.replace("朝六時", "朝七時"))]))
    assert (pair[0] == pair[1]).mean() > 0.6


def test_threshold_one_takes_exact_duplicates_alone():
    a, b = document("docs:///a", PROSE), document("docs:///b", PROSE.replace(" ", "  "))
    c = document("docs:///c", PROSE.upper())
    assert {row["uri"]: row["kind"] for row in resolve([a, b, c], 0.8)} == {
        "docs:///b": "exact", "docs:///c": "near"
    }  # fmt: skip
    assert [row["uri"] for row in resolve([a, b, c], 1.0)] == ["docs:///b"]


@pytest.fixture
def handbook(corpus: Corpus) -> Corpus:
    """Three texts; two of them twice, in other shards and formats."""
    writer = Writer(5)
    for name in ("berths", "fees", "tides"):
        corpus.write(f"{name}.txt", " ".join(writer.text(300)))
    for name in ("berths", "fees"):
        text = (corpus.folder / f"{name}.txt").read_text()
        corpus.write(f"archive/{name}.txt", f"{text} {FOOTER}")
    return corpus


def build(corpus: Corpus):
    return corpus.raw(), corpus.clean(), corpus.duplicates(), corpus.chunk()


def indexed(corpus: Corpus) -> set[str]:
    return {row["uri"].removeprefix("docs:///") for row in corpus.rows("document_shards")}


def test_duplicates_are_not_indexed_and_nothing_is_done_twice(handbook: Corpus):
    stats = build(handbook)
    assert (stats[2].documents, stats[2].near, stats[2].exact, stats[2].clusters) == (5, 2, 0, 2)
    assert indexed(handbook) == {"berths.txt", "fees.txt", "tides.txt"}
    tables = ("clean_documents", "duplicates", "document_shards", "quarantine")
    versions = [handbook.lake.version(table) for table in tables]
    again = build(handbook)
    assert (again[1].processed, again[2].written, again[3].processed) == (0, False, 0)
    assert [stage.digest for stage in again] == [stage.digest for stage in stats]
    assert [handbook.lake.version(table) for table in tables] == versions


def test_a_deleted_survivor_brings_the_next_one_back(handbook: Corpus):
    build(handbook)
    (handbook.folder / "fees.txt").unlink()
    stats = build(handbook)
    assert indexed(handbook) == {"berths.txt", "archive/fees.txt", "tides.txt"}
    assert (stats[1].processed, stats[2].near, stats[3].processed, stats[3].removed) == (0, 1, 1, 1)
    fresh = Corpus(handbook.folder, Lake(handbook.lake.root.parent / "fresh"))
    assert [stage.digest for stage in build(fresh)] == [stage.digest for stage in stats]


def test_an_edit_splits_again_only_what_it_must(handbook: Corpus, monkeypatch):
    build(handbook)
    split = []
    real = chunk.chunks
    monkeypatch.setattr(
        chunk, "chunks", lambda document, *rest: split.append(document.uri) or real(document, *rest)
    )
    # The copy becomes a text of its own: it alone is read and split.
    handbook.write("archive/berths.txt", " ".join(Writer(6).text(300)))
    stats = build(handbook)
    assert split == ["docs:///archive/berths.txt"]
    assert (stats[1].processed, stats[2].near, stats[3].processed) == (1, 1, 1)
    # It becomes a copy again: nothing is split, its chunks go.
    handbook.write("archive/berths.txt", (handbook.folder / "berths.txt").read_text())
    stats = build(handbook)
    assert len(split) == 1
    assert (stats[2].exact, stats[2].near, stats[3].removed) == (1, 1, 1)
    fresh = Corpus(handbook.folder, Lake(handbook.lake.root.parent / "fresh"))
    assert [stage.digest for stage in build(fresh)] == [stage.digest for stage in stats]


def test_the_number_of_shards_changes_nobody(handbook: Corpus):
    build(handbook)
    before = survivors(handbook.lake)
    for shards in (1, 3):
        other = Corpus(handbook.folder, Lake(handbook.lake.root.parent / str(shards)), shards)
        build(other)
        assert survivors(other.lake) == before
        assert indexed(other) == indexed(handbook)


def test_every_document_is_accounted_for(handbook: Corpus):
    handbook.write("empty.txt", b"")
    handbook.write("cut.pdf", b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog")
    handbook.write("short.txt", "A short note on berths. It is fine. Read it.")
    handbook.write("huge.txt", "x" * 2**21)
    handbook.raw()
    handbook.clean(quality_filter="filter")
    handbook.duplicates()
    handbook.chunk()
    (found,) = account(handbook.lake)
    assert (found.documents, found.unaccounted) == (9, 0)
    assert found.indexed == len(indexed(handbook))
    assert (found.quarantined, found.duplicates + found.filtered + found.indexed) == (3, 6)
    assert found.reasons["empty"] == 1 and found.reasons["gopher_words"] == 1


def test_a_restricted_document_never_stands_in_for_an_open_one(handbook: Corpus, tmp_path):
    folder = tmp_path / "board"
    folder.mkdir()
    (folder / "a.txt").write_bytes((handbook.folder / "fees.txt").read_bytes())
    board = FolderSource(name="board", path=folder, access=("board",))
    update_raw(handbook.lake, [handbook.source, board], handbook.keys(), handbook.shards, 2**20)
    handbook.clean()
    handbook.duplicates()
    assert "board:///a.txt" not in {*survivors(handbook.lake), *survivors(handbook.lake).values()}


def test_nothing_is_compared_where_files_and_threshold_are_the_same(handbook: Corpus, monkeypatch):
    first = build(handbook)[2]
    compared = []
    real = duplicates.resolve
    monkeypatch.setattr(duplicates, "resolve", lambda *rest: compared.append(rest) or real(*rest))
    again = handbook.duplicates()
    assert (compared, again) == ([], replace(first, written=False))
    handbook.lake.overwrite("duplicates", handbook.lake.read("duplicates").slice(0, 0))
    assert handbook.duplicates().written and len(compared) == 1
    assert handbook.duplicates(threshold=0.9).documents == first.documents
    assert len(compared) == 2
