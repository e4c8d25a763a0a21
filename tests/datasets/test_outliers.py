"""The queue of outliers: one entry a document, bounded, never one that a person vouched for."""

from pathlib import Path

from headwater.datasets.outliers import (
    SHOWN,
    outlying_documents,
    read_outliers,
    save_outliers,
    text_id,
    to_ask,
)
from headwater.embeddings.map import Outlier
from headwater.lake import Lake, rows_to_table
from headwater.records import GoldenItem, shard_of
from headwater.settings import Settings

SHARDS = 4


def outlier(uri: str, number: int, text: str = "odd") -> Outlier:
    return Outlier(
        id=f"{uri}-{number}", uri=uri, start=10, end=10 + len(text.encode()), heading="H" * 300,
        text=text, distance=1 - number / 10, nearest="doc://near",
    )  # fmt: skip


def lake_with(folder: Path, **digests: str) -> Lake:
    lake = Lake(folder / "lake")
    rows = [
        {"uri": f"doc://{name}", "source": "s", "shard": shard_of(f"doc://{name}", SHARDS),
         "title": name.upper(), "language": "en", "headings": [], "licence": "", "text": "",
         "input_digest": "", "digest": digest}
        for name, digest in digests.items()
    ]  # fmt: skip
    keys = sorted({row["shard"] for row in rows})
    lake.replace("clean_documents", rows_to_table("clean_documents", rows), keys=keys)
    return lake


def test_a_document_is_queued_once_by_its_farthest_text(tmp_path: Path) -> None:
    lake = lake_with(tmp_path, a="da", b="db")
    found = outlying_documents(
        lake,
        [outlier("doc://b", 1, "first"), outlier("doc://a", 2), outlier("doc://b", 3, "second"),
         outlier("doc://gone", 4)],
        SHARDS,
    )  # fmt: skip
    assert [(each.uri, each.text, each.title) for each in found] == [
        ("doc://b", "first", "B"),
        ("doc://a", "odd", "A"),
    ]
    assert found[0].id == text_id("doc://b", "db") != text_id("doc://b", "another")
    assert found[0].id != text_id("doc://a", "db")
    settings = Settings(home=tmp_path)
    assert read_outliers(settings) == []
    save_outliers(settings, found)
    assert read_outliers(settings) == found
    assert outlying_documents(lake, (), SHARDS) == []


def test_a_long_text_is_cut_with_its_span(tmp_path: Path) -> None:
    text = "ä" * (SHOWN + 5)
    (found,) = outlying_documents(lake_with(tmp_path, a="d"), [outlier("doc://a", 1, text)], SHARDS)
    assert found.text == "ä" * SHOWN
    assert (found.start, found.end) == (10, 10 + 2 * SHOWN)
    assert len(found.heading) == 200


def test_what_was_judged_or_is_about_a_confirmed_question_is_not_asked(tmp_path: Path) -> None:
    names = ("a", "b", "c", "d")
    lake = lake_with(tmp_path, **{name: name for name in names})
    outliers = [outlier(f"doc://{name}", at) for at, name in enumerate(names)]
    found = outlying_documents(lake, outliers, SHARDS)

    def question(uri: str, *, provisional: bool) -> GoldenItem:
        return GoldenItem(
            id=uri, question="q", reference="r", uris=(uri,), category="c", provisional=provisional
        )

    golden = [question("doc://b", provisional=False), question("doc://c", provisional=True)]
    asked = to_ask(found, judged={text_id("doc://a", "a")}, golden=golden)
    assert [each.uri for each in asked] == ["doc://c", "doc://d"]
