"""Ways to cut documents into chunks, compared by what is found and how long a query takes.

`python -m benchmarks.strategies --json` takes the default corpus and its golden set through the stages
of a build, in a home that is thrown away, once for each strategy: chunks of 64, 128 and 256 tokens,
with and without their heading in what is embedded, and small chunks that stand for their section. Over
what is shipped, late interaction looks at the first passages again, and so does the cross-encoder that
HEADWATER_RERANKER names, if it does. The strategies then take turns at every question. Differences are
against what is shipped, paired by question. `--sources` and `--questions` take another corpus; `--documents` takes Python's HTML
documentation, or another folder with questions of its own, and `--pages` a fixed sample of it.
"""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.python_docs import GOLDEN, Pages, documentation, pages
from headwater.datasets.golden import CURATED, build_golden_set, read_file, read_golden
from headwater.datasets.prompt import DEFAULT_PROMPT, fit, passage
from headwater.documents.chunk import shard_documents
from headwater.documents.clean import clean_documents
from headwater.documents.duplicates import find_duplicates
from headwater.documents.raw import update_raw
from headwater.documents.sources import Source, load_sources
from headwater.documents.tokens import TokenCounter, token_counter
from headwater.embeddings.edge import EdgeStore
from headwater.embeddings.embed import TextEncoder, embed_chunks
from headwater.embeddings.encoder import Encoder
from headwater.embeddings.index import publish_index
from headwater.embeddings.late_interaction import (
    KEPT_BYTES,
    LATE_INTERACTION,
    LateInteraction,
    TokenEncoder,
)
from headwater.embeddings.rerank import (
    LATE_INTERACTION_VERSION,
    Reranker,
    open_reranker,
    reference,
)
from headwater.embeddings.retrieve import Mode, RetrievalSettings, Retriever, open_retriever
from headwater.errors import HeadwaterError
from headwater.evaluation import ranking
from headwater.evaluation.retrieval import DEPTH, MODES, evaluate_retrieval
from headwater.evaluation.statistics import Interval, mean, paired_bootstrap
from headwater.lake import Lake
from headwater.records import GoldenItem, Hit, digest_of
from headwater.settings import Settings, quiet_libraries

#: Of a chunk with its heading path as the encoder counts, the two tokens that it adds included. It
#: reads no more than the last.
SIZES = (64, 128, 256)
_ADDED_TOKENS = 2
#: Those that are small enough to stand for a section.
SMALL = (64, 128)
#: Milliseconds that the median query may take, encoding the question included: a twentieth of a
#: second is what a person does not notice before an answer that takes one.
BUDGET_MS = 50.0
SHIPPED = "shipped"
#: How many passages a reranker looks at again.
FIRST = (10, 20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    """How documents become passages.

    Args:
        tokens: bound of a chunk, as `Settings.chunk_tokens`.
        heading: embed the heading path before the text; BM25 has it either way.
        section: search chunks, and return the section that each is in.
        reranker: reference of who looks at the first passages again; `rerank_first` is how many.
        kept: time a reranker with the passages in memory from a search before. Else it keeps none.
    """

    name: str
    tokens: int
    heading: bool = True
    section: bool = False
    reranker: str = ""
    rerank_first: int = 0
    kept: bool = False


def strategies(shipped_tokens: int, reranker: str = "") -> list[Strategy]:
    """What is compared, the shipped strategy first.

    Args:
        reranker: what the settings choose; a cross-encoder is compared too.
    """
    late = f"{LATE_INTERACTION}/{LATE_INTERACTION_VERSION}"
    found = [Strategy(name=SHIPPED, tokens=shipped_tokens)]
    for chosen in dict.fromkeys([late, *([reranker] if reranker else [])]):
        kind = chosen.partition("/")[0]
        found += [
            Strategy(
                name=f"{SHIPPED}, {kind} of {first}",
                tokens=shipped_tokens,
                reranker=chosen,
                rerank_first=first,
            )
            for first in FIRST
        ]
    name = f"{SHIPPED}, {LATE_INTERACTION} of {FIRST[0]} in memory"
    found.append(replace(found[1], name=name, kept=True))
    for size in SIZES:
        tokens = size - _ADDED_TOKENS
        found.append(Strategy(name=f"{size} tokens", tokens=tokens))
        found.append(Strategy(name=f"{size} tokens, no heading", tokens=tokens, heading=False))
        if size in SMALL:
            found.append(Strategy(name=f"{size} tokens, section", tokens=tokens, section=True))
    return found


class Headless:
    """An encoder of what stands below a chunk's heading, which is the first line of its text."""

    def __init__(self, encoder: TextEncoder) -> None:
        self._encoder = encoder
        self.digest = digest_of(encoder.digest, "without headings")

    def encode(self, texts: Sequence[str], *, what: str = "encoding") -> npt.NDArray[np.float32]:
        """Vectors of texts that `headwater.documents.split.embed_text` has made."""
        return self._encoder.encode([text.partition("\n")[2] for text in texts], what=what)


class Arm:
    """A strategy that can be asked.

    Args:
        sections: of each chunk, by its id, the section to return for it; None returns the chunk.
    """

    def __init__(
        self, strategy: Strategy, retriever: Retriever, sections: Mapping[str, Hit] | None
    ) -> None:
        self.strategy, self.retriever, self._sections = strategy, retriever, sections

    def retrieve(self, question: str, mode: Mode, limit: int) -> list[Hit]:
        """The best chunks, or the sections of the best, each once and at its first chunk's place."""
        if self._sections is None:
            return self.retriever.retrieve(question, mode, limit)
        found: dict[str, Hit] = {}
        for hit in self.retriever.retrieve(question, mode, self.retriever.settings.depth):
            section = self._sections[hit.id]
            found.setdefault(section.id, replace(section, score=hit.score))
        return list(found.values())[:limit]


def sections(lake: Lake) -> dict[str, Hit]:
    """Of each chunk, by its id, its section: the chunks in a row that stand under one heading."""
    columns = ["id", "uri", "ordinal", "title", "heading", "start", "end", "text"]
    order = [("uri", "ascending"), ("ordinal", "ascending")]
    rows = lake.read("document_shards", columns=columns).sort_by(order).to_pylist()
    found: dict[str, Hit] = {}
    for _, group in groupby(rows, key=lambda row: (row["uri"], row["heading"])):
        chunks = list(group)
        first = chunks[0]
        section = Hit(
            id=first["id"],
            score=0.0,
            uri=first["uri"],
            title=first["title"],
            heading=first["heading"],
            start=first["start"],
            end=chunks[-1]["end"],
            text="\n".join(chunk["text"] for chunk in chunks),
        )
        found |= {chunk["id"]: section for chunk in chunks}
    return found


class Bench:
    """Indexes of one corpus, a strategy each, below one folder.

    Args:
        root: a folder to be thrown away.
        sources: where the documents come from.
        questions: a file of golden questions besides those that ship with Headwater.
    """

    def __init__(
        self,
        root: Path,
        settings: Settings,
        encoder: TextEncoder,
        sources: Sequence[Source],
        questions: Path,
    ) -> None:
        self.root, self.settings, self.encoder = root, settings, encoder
        self.shards = settings.shard_keys()
        self.count: TokenCounter = token_counter(settings.embedding_model)
        _say("reading and cleaning the documents")
        lake = Lake(root / "documents")
        update_raw(lake, sources, self.shards, settings.shards, settings.max_document_bytes)
        clean_documents(lake, self.shards, settings.max_text_chars, children=settings.threads)
        find_duplicates(lake, settings.duplicate_threshold)
        build_golden_set(lake, questions)
        self.items = [item for item in read_golden(lake) if not item.provisional]
        if not self.items:
            raise HeadwaterError(
                "No golden question is about these documents.",
                mend="Give --questions a file of confirmed questions, such as your golden.yaml.",
            )
        self.evidence = _evidence([*sorted(CURATED.glob("*.yaml")), questions])
        self.documents = lake.read("clean_documents", columns=["uri"]).num_rows
        #: Chunks, and seconds to split, embed and index them, by bound and heading.
        self.built: dict[tuple[int, bool], tuple[int, float]] = {}

    def open(self, strategy: Strategy, stack: ExitStack) -> Arm:
        """The strategy's index, built where no other strategy has built it, open until the end."""
        key = (strategy.tokens, strategy.heading)
        home = self.root / str(strategy.tokens)
        name = "indexes" if strategy.heading else "indexes-without-heading"
        store = EdgeStore(home / name, threads=self.settings.threads)
        lake = Lake(home / "lake")
        if key not in self.built:
            _say(f"indexing: {strategy.name}")
            if not lake.root.exists():
                shutil.copytree(self.root / "documents", lake.root)
            encoder: TextEncoder = self.encoder if strategy.heading else Headless(self.encoder)
            started = time.perf_counter()
            model = self.settings.embedding_model
            chunks = shard_documents(lake, self.shards, strategy.tokens, model).chunks
            embed_chunks(lake, self.shards, encoder)
            publish_index(lake, store, model_digest=encoder.digest)
            self.built[key] = chunks, round(time.perf_counter() - started, 1)
        # Questions have no heading: they are encoded as they are.
        how = RetrievalSettings()
        if strategy.reranker:
            how = replace(how, reranker=strategy.reranker, rerank_first=strategy.rerank_first)
        retriever = stack.enter_context(
            open_retriever(store, self.encoder, settings=how, reranker=self._reranker(strategy))
        )
        return Arm(strategy, retriever, sections(lake) if strategy.section else None)

    def _reranker(self, strategy: Strategy) -> Reranker | None:
        if strategy.reranker.startswith(LATE_INTERACTION) and isinstance(
            self.encoder, TokenEncoder
        ):
            return LateInteraction(self.encoder, KEPT_BYTES if strategy.kept else 0)
        return open_reranker(self.settings, strategy.reranker, self.encoder)

    def judge(self, arm: Arm) -> tuple[dict[str, Any], list[float]]:
        """The figures of what a strategy finds, and the fused nDCG@10 of each question."""
        report = evaluate_retrieval(self.items, arm.retrieve)
        assert report.curated is not None  # provisional questions were left out
        fused = report.curated.modes["fused"]
        chunks, seconds = self.built[arm.strategy.tokens, arm.strategy.heading]
        found = {
            **asdict(arm.strategy),
            "chunks": chunks,
            "index_seconds": seconds,
            "ndcg_at_10": {mode: asdict(report.curated.modes[mode].ndcg_at_10) for mode in MODES},
            "recall_at_5": fused.recall[5],
            **self._shown(arm),
        }
        return found, [ranking.ndcg_at(row.rank["fused"], DEPTH) for row in report.rows]

    def _shown(self, arm: Arm) -> dict[str, Any]:
        """What a prompt would hold: how often a passage with the answer, and how many tokens.

        Of the best passages as many as the shipped prompt takes, cut at its budget by its own rule,
        in the encoder's tokens; passages that are far from the question are not left out here.
        """
        held: list[float] = []
        tokens: list[float] = []
        for item in self.items:
            hits = arm.retrieve(item.question, "fused", DEFAULT_PROMPT.top_k)
            hits = fit(hits, self.count, DEFAULT_PROMPT.max_context_tokens)
            tokens.append(float(sum(self.count([passage(hit) for hit in hits]))))
            if quotes := self.evidence.get(item.id):
                shown = [_fold(hit.text) for hit in hits]
                held.append(float(any(quote in text for quote in quotes for text in shown)))
        return {
            "evidence_in_prompt": mean(held) if held else None,
            "prompt_tokens": mean(tokens),
        }


def compare(bench: Bench, wanted: Sequence[Strategy], rounds: int) -> dict[str, Any]:
    """Every figure of every strategy; the first is what the others are compared with."""
    with ExitStack() as stack:
        arms = [bench.open(strategy, stack) for strategy in wanted]
        judged: list[dict[str, Any]] = []
        ndcg: list[list[float]] = []
        for arm in arms:
            _say(f"judging: {arm.strategy.name}")
            figures, values = bench.judge(arm)
            judged.append(figures)
            ndcg.append(values)
        times = _times(arms, bench.items, rounds)
    for at, figures in enumerate(judged):
        figures["ms"] = {
            "median": round(median(times[at]), 2),
            "p95": round(float(np.quantile(times[at], 0.95)), 2),
        }
        figures["within_budget"] = figures["ms"]["median"] <= BUDGET_MS
        figures["ndcg_difference"] = _difference(ndcg[at], ndcg[0]) if at else None
        figures["ms_difference"] = _difference(times[at], times[0]) if at else None
    allowed = [figures for figures in judged if figures["within_budget"]]
    best = max(allowed, key=lambda f: f["ndcg_at_10"]["fused"]["mean"], default=None)
    better = [
        f["name"] for f in allowed if f["ndcg_difference"] and f["ndcg_difference"]["low"] > 0
    ]
    return {
        "documents": bench.documents,
        "questions": len(bench.items),
        "threads": bench.settings.threads,
        "rounds": rounds,
        "budget_ms": BUDGET_MS,
        "strategies": {figures["name"]: figures for figures in judged},
        "best_mean_within_budget": best["name"] if best else None,
        "better_than_shipped": better,
    }


def _times(arms: Sequence[Arm], items: Sequence[GoldenItem], rounds: int) -> list[list[float]]:
    """Milliseconds of each question with each strategy, the median of the rounds.

    All strategies are asked one question before the next, each of them first in turn, so that what
    else the machine does falls on all of them. Those that keep passages are asked once before.
    """
    _say(f"timing: {len(items)} questions, {len(arms)} strategies, {rounds} rounds")
    for arm in arms:
        arm.retrieve("Is anything here?", "fused", DEPTH)
    found: list[list[float]] = [[] for _ in arms]
    for number, item in enumerate(items):
        taken: list[list[float]] = [[] for _ in arms]
        for arm in arms:
            if arm.strategy.kept:
                arm.retrieve(item.question, "fused", DEPTH)
        for turn in range(rounds):
            for place in range(len(arms)):
                at = (place + number + turn) % len(arms)
                started = time.perf_counter()
                arms[at].retrieve(item.question, "fused", DEPTH)
                taken[at].append(1000 * (time.perf_counter() - started))
        for at, values in enumerate(taken):
            found[at].append(median(values))
    return found


def _difference(values: Sequence[float], baseline: Sequence[float]) -> dict[str, float]:
    interval: Interval = paired_bootstrap(values, baseline)
    return asdict(interval)


def _evidence(files: Sequence[Path]) -> dict[str, list[str]]:
    """Short quotes that hold the answer of a question, by its id."""
    items = [item for file in files for item in read_file(file).items]
    return {item.id: [_fold(quote) for quote in item.evidence] for item in items if item.evidence}


def _fold(text: str) -> str:
    return " ".join(text.split())


def _say(text: str) -> None:
    print(f"  {text} …", file=sys.stderr, flush=True)


def table(found: Mapping[str, Any]) -> str:
    """The result as Markdown, as docs/experiments.md has it."""
    lines = [
        f"{found['documents']} documents, {found['questions']} questions; differences against"
        f" `{SHIPPED}`, 95 % intervals; budget {found['budget_ms']:g} ms.{_sampled(found)}",
        "",
        "| strategy | chunks | nDCG@10 | difference | evidence in prompt | tokens there |"
        " ms, median (p95) | difference, ms |",
        "|" + " --- |" * 8,
    ]
    for name, figures in found["strategies"].items():
        shown = figures["evidence_in_prompt"]
        cells = [
            name,
            f"{figures['chunks']:,}",
            _interval(figures["ndcg_at_10"]["fused"], "{:.3f}"),
            _interval(figures["ndcg_difference"], "{:+.3f}"),
            "-" if shown is None else f"{shown:.3f}",
            f"{figures['prompt_tokens']:.0f}",
            f"{figures['ms']['median']:.1f} ({figures['ms']['p95']:.1f})",
            _interval(figures["ms_difference"], "{:+.1f}"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    better = ", ".join(found["better_than_shipped"]) or "none"
    lines += ["", f"Better than `{SHIPPED}` within the budget, beyond the interval: {better}."]
    return "\n".join(lines)


def _sampled(found: Mapping[str, Any]) -> str:
    if not (counts := found.get("pages")):
        return ""
    return (
        f" Pages that questions name: {counts['named']}; others: {counts['others']}, chosen by a seed,"
        f" and {counts['left_out']} left out."
    )


def _interval(value: Mapping[str, float] | None, form: str) -> str:
    if value is None:
        return "-"
    average, low, high = (form.format(value[name]) for name in ("mean", "low", "high"))
    return f"{average} [{low}, {high}]"


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    corpus = parser.add_mutually_exclusive_group()
    corpus.add_argument("--sources", type=Path, help="a sources.yaml; default: the default corpus")
    corpus.add_argument(
        "--documents",
        nargs="?",
        const="",
        metavar="FOLDER",
        help="a folder that --questions are about; without a name Python's HTML documentation",
    )
    parser.add_argument(
        "--questions",
        type=Path,
        help="a golden.yaml besides the shipped questions; with --documents, default: the questions"
        " over Python's documentation",
    )
    parser.add_argument(
        "--pages",
        type=int,
        help="of --documents: the pages that questions name, and so many others; default: all",
    )
    parser.add_argument("--rounds", type=int, default=3, help="turns at each question, for times")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    options = parser.parse_args()
    if options.pages is not None and options.documents is None:
        parser.error("--pages is of --documents")
    quiet_libraries()
    settings = Settings()
    encoder = Encoder(settings.embedding_model, settings.threads, settings.encoders)
    with TemporaryDirectory() as folder:
        root = Path(folder)
        questions: Path = options.questions or root / "none.yaml"
        chosen: Pages | None = None
        if options.documents is None:
            sources = load_sources(options.sources or root / "no-sources.yaml")
        else:
            place = documentation(Path(options.documents) if options.documents else None)
            questions = options.questions or GOLDEN
            chosen = pages(place, questions, options.pages)
            sources = [chosen.source]
        bench = Bench(root, settings, encoder, sources, questions)
        found = compare(
            bench, strategies(settings.chunk_tokens, reference(settings)), options.rounds
        )
        if chosen:
            counts = ("named", "others", "left_out")
            found["pages"] = {name: getattr(chosen, name) for name in counts}
    print(table(found), file=sys.stderr if options.json else sys.stdout)
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
