"""What people rate out of the corpus: exactly that text, counted, and taken back."""

import pytest

from headwater.documents import clean
from headwater.documents.accounting import account
from headwater.documents.rated_out import RatedOut, by_shard
from headwater.documents.suites import Expectation, Suite
from headwater.records import shard_of
from tests.documents.examples import PROSE, SHARDS, Corpus


def judged(corpus: Corpus, *names: str, detail: str = "left out by ann"):
    """Verdicts on documents as they are, in the form that the stage takes."""
    rows = {row["uri"]: row["digest"] for row in corpus.rows("clean_documents")}
    uris = [f"docs:///{name}" for name in names]
    entries = [RatedOut(uri=uri, digest=rows[uri], detail=detail) for uri in uris]
    return by_shard(entries, len(SHARDS))


def held(corpus: Corpus) -> set[str]:
    return {row["uri"].removeprefix("docs:///") for row in corpus.rows("clean_documents")}


def test_one_verdict_removes_its_document_and_is_accounted_for(three: Corpus):
    three.build()
    three.duplicates()
    out = judged(three, "notes.md")
    stats = three.clean(rated_out=out)
    assert (stats.seen, stats.processed, stats.quarantined, stats.removed) == (3, 0, 1, 1)
    assert held(three) == {"guide.html", "plain.txt"}
    (row,) = three.rows("quarantine")
    assert (row["uri"], row["stage"], row["reason"]) == ("docs:///notes.md", "filter", "rated_out")
    assert row["detail"] == "left out by ann"
    three.duplicates()
    three.chunk()
    assert {row["uri"] for row in three.rows("document_shards")} == {
        "docs:///guide.html",
        "docs:///plain.txt",
    }
    (found,) = account(three.lake)
    assert (found.documents, found.indexed, found.filtered, found.unaccounted) == (3, 2, 1, 0)
    assert found.reasons == {"rated_out": 1}

    # Again, with the shards at rest and without.
    for _ in range(2):
        again = three.clean(rated_out=out)
        assert (again.processed, again.shards_written, again.digest) == (0, (), stats.digest)
        assert again.quarantined == 1
        (three.lake.root / ".rest" / "clean_documents.json").unlink()
    later = three.clean(rated_out=judged_again(out))
    assert (later.processed, later.shards_written) == (0, ())
    assert three.rows("quarantine")[0]["detail"] == "left out by bob"


def judged_again(out):
    return {
        shard: tuple(RatedOut(uri=e.uri, digest=e.digest, detail="left out by bob") for e in of)
        for shard, of in out.items()
    }


def test_nothing_rated_out_is_as_if_there_were_no_such_thing(three: Corpus):
    three.raw()
    first = three.clean()
    stats = three.clean(rated_out={})
    assert (stats.processed, stats.shards_written, stats.digest) == (0, (), first.digest)


def test_a_verdict_that_is_taken_back_brings_the_document_back(three: Corpus):
    three.raw()
    first = three.clean()
    three.clean(rated_out=judged(three, "notes.md", "plain.txt"))
    assert held(three) == {"guide.html"}
    stats = three.clean()
    assert (stats.processed, stats.quarantined, stats.digest) == (2, 0, first.digest)
    assert three.rows("quarantine") == []


def test_another_text_at_the_address_was_not_judged_and_the_same_one_again_was(three: Corpus):
    three.raw()
    three.clean()
    out = judged(three, "plain.txt")
    three.clean(rated_out=out)
    before = (three.folder / "plain.txt").read_text()

    three.write("plain.txt", f"{before}\nAnd a line that nobody has judged.\n")
    three.raw()
    three.clean(rated_out=out)
    assert "plain.txt" in held(three) and three.rows("quarantine") == []

    three.write("plain.txt", f"{before}\n\n")  # other bytes, the same text
    three.raw()
    three.clean(rated_out=out)
    assert "plain.txt" not in held(three)
    assert three.reasons() == {"plain.txt": "rated_out"}


def test_the_same_text_elsewhere_stays(three: Corpus):
    home = shard_of("docs:///plain.txt", len(SHARDS))
    copy = next(
        name
        for name in (f"copy-{number}.txt" for number in range(99))
        if shard_of(f"docs:///{name}", len(SHARDS)) == home
    )
    three.write(copy, (three.folder / "plain.txt").read_text())
    three.build()
    out = judged(three, "plain.txt")
    three.clean(rated_out=out)
    assert held(three) == {"guide.html", "notes.md", copy}
    three.duplicates()
    (found,) = account(three.lake)
    assert (found.indexed, found.duplicates, found.filtered, found.unaccounted) == (3, 0, 1, 0)


def test_from_scratch_it_ends_the_same(three: Corpus):
    three.raw()
    three.clean()
    out = judged(three, "guide.html")
    stats = three.clean(rated_out=out)
    fresh = Corpus(three.folder, type(three.lake)(three.lake.root.parent / "fresh"))
    fresh.raw()
    assert fresh.clean(rated_out=out).digest == stats.digest
    assert fresh.rows("quarantine") == three.rows("quarantine")


def test_a_kill_between_the_writes_is_made_good(three: Corpus, monkeypatch):
    three.raw()
    three.clean()
    out = judged(three, "plain.txt")

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(clean, "write_quarantine", killed)
    with pytest.raises(KeyboardInterrupt):
        three.clean(rated_out=out)
    monkeypatch.undo()
    three.clean(rated_out=out)
    assert three.reasons() == {"plain.txt": "rated_out"}
    assert held(three) == {"guide.html", "notes.md"}


def test_a_deleted_document_leaves_quarantine(three: Corpus):
    three.raw()
    three.clean()
    out = judged(three, "plain.txt")
    three.clean(rated_out=out)
    (three.folder / "plain.txt").unlink()
    three.raw()
    assert three.clean(rated_out=out).quarantined == 0
    assert three.rows("quarantine") == []


def test_a_shard_that_failed_together_is_asked_again_without_it(corpus: Corpus):
    rules = Suite(
        "documents",
        (
            (
                "test",
                Expectation.model_validate(
                    {
                        "expect": "ExpectColumnMaxToBeBetween", "column": "characters",
                        "max_value": 500, "on_failure": "quarantine",
                    }
                ),
            ),
        ),
    )  # fmt: skip
    for number in range(6):
        corpus.write(f"{number}.txt", f"Number {number}. {PROSE}")
    corpus.write("long.txt", PROSE * 9)
    corpus.raw()
    corpus.clean()
    out = judged(corpus, "long.txt")
    corpus.clean(suite=rules)
    assert "failed_shard" in corpus.reasons().values()
    corpus.clean(suite=rules, rated_out=out)
    assert corpus.reasons() == {"long.txt": "rated_out"}
    assert held(corpus) == {f"{number}.txt" for number in range(6)}
