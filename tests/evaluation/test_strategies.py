"""`benchmarks.strategies`: each strategy is what its name says, and the figures are comparable."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import yaml

from benchmarks import strategies as module
from benchmarks.strategies import (
    Arm,
    Bench,
    Headless,
    Strategy,
    compare,
    sections,
    strategies,
    table,
)
from headwater.documents.sources import FolderSource
from headwater.errors import HeadwaterError
from headwater.lake import Lake
from headwater.settings import Settings
from tests.embeddings.examples import WordEncoder

LATE = "late-interaction/1"


class TokenEncoder(WordEncoder):
    """Its tokens are words."""

    def token_vectors(self, texts: Sequence[str]) -> list[np.ndarray]:
        self.read = [*getattr(self, "read", []), *texts]
        return [self.encode(text.split()) for text in texts]


BOATS = "Boats that arrive later wait at the outer pier until the next day. "
FEES = "A berth costs twelve crowns a night and water is free of charge. "
BREAD = "Sourdough bread rises because of wild yeast that lives in the flour. "
PAGES = {
    "harbour.md": f"# Harbour\n\n{BOATS * 5}\n\n## Fees\n\n{BOATS}{BOATS}{BOATS}{FEES}\n",
    "bread.md": f"# Bread\n\n{BREAD}{BREAD}\n\n## Oven\n\nAn oven of stone keeps the heat.\n",
    "bees.md": "# Bees\n\nHoney bees dance to tell each other where flowers are.\n",
}
ITEMS = [
    {"id": "fees", "question": "What does a berth cost a night?", "reference": "Twelve crowns.",
     "category": "c", "uris": ["docs:///harbour.md"], "evidence": ["berth costs twelve crowns"]},
    {"id": "bread", "question": "Why does sourdough bread rise?", "reference": "Of wild yeast.",
     "category": "c", "uris": ["docs:///bread.md"], "evidence": ["wild yeast"]},
    {"id": "bees", "question": "Why do honey bees dance?", "reference": "To tell where flowers are.",
     "category": "c", "uris": ["docs:///bees.md"]},
]  # fmt: skip
LARGE = Strategy(name="large", tokens=120)
SMALL = Strategy(name="small", tokens=32)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    tmp_path = tmp_path_factory.mktemp("bench")
    folder = tmp_path / "pages"
    folder.mkdir()
    for name, text in PAGES.items():
        (folder / name).write_text(text)
    questions = tmp_path / "golden.yaml"
    questions.write_text(yaml.safe_dump({"items": ITEMS}))
    settings = Settings(home=tmp_path / "home", shards=2)
    root = tmp_path / "work"
    root.mkdir()
    sources = [FolderSource(name="docs", path=folder)]
    return Bench(root, settings, TokenEncoder(), sources, questions)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_the_shipped_strategy_is_compared_with_the_others() -> None:
    found = strategies(160)
    assert found[0] == Strategy(name="shipped", tokens=160)
    assert len({each.name for each in found}) == len(found)
    again = [each for each in found if each.reranker]
    assert [(each.reranker, each.rerank_first, each.kept) for each in again] == [
        (LATE, 10, False), (LATE, 20, False), (LATE, 10, True),
    ]  # fmt: skip
    assert all(replace(each, name="shipped", reranker="", rerank_first=0, kept=False) == found[0]
               for each in again)  # fmt: skip
    assert strategies(160, LATE) == found
    cross = [each.name for each in strategies(160, "cross-encoder/abc") if each not in found]
    assert cross == ["shipped, cross-encoder of 10", "shipped, cross-encoder of 20"]
    found = [each for each in found if not each.reranker]
    assert {each.tokens + 2 for each in found[1:]} == {64, 128, 256}
    assert {each.tokens + 2 for each in found if not each.heading} == {64, 128, 256}
    assert {each.tokens + 2 for each in found if each.section} == {64, 128}


def test_without_its_heading_a_chunk_is_embedded_by_its_text() -> None:
    encoder = WordEncoder()
    headless = Headless(encoder)
    assert headless.digest != encoder.digest
    expected = WordEncoder().encode(["body\nof two lines", "no heading"])
    found = headless.encode(["A > heading\nbody\nof two lines", "\nno heading"])
    np.testing.assert_array_equal(found, expected)


def test_figures_of_strategies_are_paired_with_the_first(bench: Bench) -> None:
    """One strategy under two names is as good as itself; others have chunks of their own."""
    again = Strategy(name="again", tokens=LARGE.tokens)
    bare = Strategy(name="bare", tokens=LARGE.tokens, heading=False)
    whole = Strategy(name="whole", tokens=SMALL.tokens, section=True)
    found = compare(bench, [LARGE, again, bare, SMALL, whole], rounds=1)
    assert (found["documents"], found["questions"]) == (3, 3)
    figures = found["strategies"]
    assert list(figures) == ["large", "again", "bare", "small", "whole"]
    assert figures["large"]["ndcg_difference"] is None
    assert figures["large"]["ms_difference"] is None
    assert figures["again"]["ndcg_difference"] == {"mean": 0, "low": 0, "high": 0}
    for name in ("ndcg_at_10", "evidence_in_prompt", "prompt_tokens", "chunks"):
        assert figures["again"][name] == figures["large"][name]
    assert figures["small"]["chunks"] == figures["whole"]["chunks"] > figures["large"]["chunks"]
    assert set(bench.built) == {(120, True), (120, False), (32, True)}, "built once each"
    by_words = {name: each["ndcg_at_10"]["bm25"] for name, each in figures.items()}
    assert by_words["bare"] == by_words["large"], "BM25 has the heading either way"
    assert figures["whole"]["prompt_tokens"] > figures["small"]["prompt_tokens"]
    assert all(each["ms"]["median"] > 0 for each in figures.values())
    said = table(found)
    assert all(f"| {name} |" in said for name in figures)
    counts = {"named": 2, "others": 1, "left_out": 7}
    assert "name: 2; others: 1, chosen by a seed, and 7 left out" in table(
        found | {"pages": counts}
    )


def test_a_section_is_all_that_stands_under_a_heading(bench: Bench, stack: ExitStack) -> None:
    small = bench.open(SMALL, stack)
    whole = bench.open(Strategy(name="whole", tokens=SMALL.tokens, section=True), stack)
    question = "What does a berth cost a night?"
    chunk, section = (arm.retrieve(question, "fused", 10)[0] for arm in (small, whole))
    assert (section.uri, section.heading) == (chunk.uri, chunk.heading)
    assert "twelve crowns" in section.text and section.text.count("outer pier") == 3
    assert section.start <= chunk.start and chunk.end <= section.end
    assert len(chunk.text) < len(section.text)
    found = whole.retrieve(question, "fused", 10)
    assert len({(hit.uri, hit.heading) for hit in found}) == len(found)

    lake = Lake(bench.root / str(SMALL.tokens) / "lake")
    of = sections(lake)
    rows = lake.read("document_shards", columns=["id", "text"]).to_pylist()
    assert {row["id"] for row in rows} == set(of)
    assert all(row["text"] in of[row["id"]].text for row in rows)


def test_what_a_prompt_shows_is_searched_for_the_evidence(
    bench: Bench, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    arm = bench.open(LARGE, stack)
    found, ndcg = bench.judge(arm)
    assert found["evidence_in_prompt"] == 1 and len(ndcg) == 3
    monkeypatch.setattr(bench, "evidence", {"fees": ["nobody says so"], "bread": ["wild yeast"]})
    assert bench.judge(arm)[0]["evidence_in_prompt"] == 0.5
    monkeypatch.setattr(bench, "evidence", {})
    assert bench.judge(arm)[0]["evidence_in_prompt"] is None


def test_the_strategies_take_turns(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A question is put to all before the next, and each is the first as often as any other."""
    asked: list[tuple[str, str]] = []

    class Fake:
        def __init__(self, name: str) -> None:
            self.name = name
            self.strategy = Strategy(name=name, tokens=1)

        def retrieve(self, question: str, mode: str, limit: int) -> list[object]:
            asked.append((question, self.name))
            return []

    arms = [cast(Arm, Fake(name)) for name in "abc"]
    times = module._times(arms, bench.items, rounds=3)
    assert [len(each) for each in times] == [3, 3, 3]
    timed = asked[3:]
    assert [question for question, _ in timed] == [
        item.question for item in bench.items for _ in range(9)
    ]
    firsts = [name for _, name in timed[::3]]
    assert {name: firsts.count(name) for name in "abc"} == {"a": 3, "b": 3, "c": 3}


def test_a_reranker_orders_the_passages_of_the_shipped_index(
    bench: Bench, stack: ExitStack
) -> None:
    plain = bench.open(LARGE, stack)
    built = dict(bench.built)
    late = Strategy(name="late", tokens=LARGE.tokens, reranker=LATE, rerank_first=3)
    arm = bench.open(late, stack)
    kept = bench.open(replace(late, kept=True), stack)
    assert bench.built == built, "the index is the shipped strategy's"
    question = "What does a berth cost a night?"
    before = plain.retrieve(question, "fused", 10)
    found = arm.retrieve(question, "fused", 10)
    scores = arm.retriever.reranker.scores(question, before[:3])
    order = sorted(range(3), key=lambda at: (-scores[at], at))
    assert found == [*(before[at] for at in order), *before[3:]]
    assert kept.retrieve(question, "fused", 10) == found
    assert arm.retrieve(question, "bm25", 10) == plain.retrieve(question, "bm25", 10)
    read = len(bench.encoder.read)
    kept.retrieve(question, "fused", 10)
    assert len(bench.encoder.read) == read + 1, "the question alone"
    arm.retrieve(question, "fused", 10)
    assert len(bench.encoder.read) == read + 5, "and the passages, each time"


def test_documents_that_nobody_asks_about_compare_nothing(tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "bees.md").write_text(PAGES["bees.md"])
    sources = [FolderSource(name="docs", path=tmp_path / "pages")]
    settings = Settings(home=tmp_path / "home", shards=2)
    (tmp_path / "work").mkdir()
    with pytest.raises(HeadwaterError, match="No golden question"):
        Bench(tmp_path / "work", settings, WordEncoder(), sources, tmp_path / "none.yaml")
