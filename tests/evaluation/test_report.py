import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from headwater.evaluation import report
from headwater.evaluation.document import Document, Table, escape_markdown
from headwater.evaluation.statistics import Interval
from headwater.records import digest_of
from tests.evaluation.examples import generation_report, retrieval_report

RETRIEVAL = retrieval_report({"dense": [1, 2, 3], "bm25": [2, None, 1], "fused": [1, None, 1]})
GENERATION = generation_report(
    {"base": [2.0, 2.2, 2.4], "adapter": [1.5, 1.9, 2.5]},
    {"base": [True, False, True], "adapter": [True, True, True]},
)
PROVISIONAL = retrieval_report({"dense": [1], "bm25": [1], "fused": [1]}, provisional=True)


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_pages_are_self_contained_and_hold_the_figures() -> None:
    found = Page(report.retrieval_document(RETRIEVAL, {"index": "abc"}).to_html())
    written = Page(report.generation_document(GENERATION, {"adapter": "def"}).to_html())
    for page in (found, written):
        assert page.sources
        assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert RETRIEVAL.curated is not None
    assert report.show(RETRIEVAL.curated.modes["fused"].ndcg_at_10) in found.text
    assert GENERATION.curated is not None
    assert report.show(GENERATION.curated.deltas["nll"]) in written.text
    assert "Answer of adapter" in written.text


def test_text_of_documents_stays_text() -> None:
    evil = "<script>alert(1)</script> | [x](javascript:1) `"
    document = Document(
        title=evil, facts={evil: evil}, notes=[evil], parts=[Table(evil, (evil,), [(evil,)])]
    )
    page = Page(document.to_html())
    assert "script" not in page.tags
    assert page.text.count(evil) == 8, "title twice, fact, its value, note, heading, two cells"
    markdown = document.to_markdown()
    assert "<script" not in markdown
    assert "[x](" not in markdown
    assert "\\|" in markdown
    assert escape_markdown("two\n\nlines") == "two lines"


def test_provisional_reports_say_so() -> None:
    assert "Provisional" in report.retrieval_document(PROVISIONAL, {}).to_markdown()
    assert "Provisional" not in report.retrieval_document(RETRIEVAL, {}).to_markdown()


def test_written_once_by_content(tmp_path: Path) -> None:
    document = report.retrieval_document(RETRIEVAL, {"index": "abc"})
    folder = report.write_report(tmp_path, "retrieval_report", RETRIEVAL.digest, document)
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "report.md"]
    before = (folder / "report.html").stat().st_mtime_ns
    assert report.write_report(tmp_path, "retrieval_report", RETRIEVAL.digest, document) == folder
    assert (folder / "report.html").stat().st_mtime_ns == before
    other = report.retrieval_document(RETRIEVAL, {"index": "abd"})
    assert report.write_report(tmp_path, "retrieval_report", RETRIEVAL.digest, other) != folder


def test_pictures_are_the_same_bytes_each_time() -> None:
    first, second = (report.retrieval_document(RETRIEVAL, {}).to_html() for _ in range(2))
    assert first == second


def test_summary_is_the_contract_of_status() -> None:
    value = json.loads(json.dumps(report.summary(RETRIEVAL, GENERATION)))
    assert set(value["generation"]["nll_delta"]) == {"mean", "low", "high"}
    assert value["generation"]["nll_delta"]["mean"] == pytest.approx(-0.23333)
    assert set(value["retrieval"]["ndcg_at_10"]) == {"dense", "bm25", "fused"}
    assert value["retrieval"]["recall_at_5"] == pytest.approx(0.66667)
    assert value["retrieval"]["provisional"] is False
    empty = retrieval_report({"dense": [], "bm25": [], "fused": []})
    assert report.summary(empty, generation_report({"base": []}))["retrieval"] is None
    assert digest_of(value)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (0.5, "0.500"),
        (Interval(mean=0.1, low=-0.2, high=0.4), "0.100 [-0.200, 0.400]"),
    ],
)
def test_figures(value: Interval | float | None, shown: str) -> None:
    assert report.show(value) == shown
