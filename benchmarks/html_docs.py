"""Python's HTML documentation and a folder of every format through a build, and what is lost: nothing.

`python -m benchmarks.html_docs --json` takes both folders through the stages of a build, each in a home
that is thrown away, and says where every file went: listed or not and why, indexed, duplicate,
quarantined or filtered, by reason. It fails where these do not add up, in the account that Dagster
shows, in the chunks, or in the mart that dbt makes. `--embed` indexes and asks the golden questions,
`--answers` has the base model answer some through an endpoint: training an adapter is not part.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import python_docs
from benchmarks.bad_inputs import BadFile, Canaries, bad_inputs
from benchmarks.mixed import FACTS, PICTURES, write
from headwater.documents import accounting
from headwater.documents.kinds.base import MEDIA_TYPES, base_uri, quote
from headwater.documents.sources import FolderSource, list_items
from headwater.embeddings.encoder import AnyEncoder, open_encoder
from headwater.embeddings.store import open_store
from headwater.errors import HeadwaterError
from headwater.lake import Lake
from headwater.records import GoldenItem
from headwater.settings import Settings, quiet_libraries

PARTS = ("docs", "mixed")
MIXED = "mixed"
#: Of benchmarks.bad_inputs, those that are refused soon; benchmarks.hostile has all.
BAD = (
    "zero bytes", "truncated PDF", "encrypted PDF", "wrong extension", "billion laughs", "XXE",
    "zip-slip", "hidden characters", "HTML with scripts",
)  # fmt: skip
#: What an account counts besides all documents.
FATES = ("indexed", "duplicates", "quarantined", "filtered")
#: The models of the mart, and what their tests read.
_MART = ("stg_clean_documents", "+corpus_accounting", "+corpus_reasons")


class Trial:
    """One folder in a home of its own, taken through the stages of a build.

    Args:
        settings: of a home that is thrown away.
        source: the folder; the only source there is.
    """

    def __init__(self, settings: Settings, source: FolderSource) -> None:
        self.settings, self.source = settings, source
        self.lake = Lake(settings.lake)
        self.seconds: dict[str, float] = {}
        self.faults: list[str] = []

    def build(self) -> int:
        """Raw bytes to chunks, as the assets do it; returns how many chunks there are."""
        from headwater.documents.chunk import shard_documents
        from headwater.documents.clean import clean_documents
        from headwater.documents.duplicates import find_duplicates
        from headwater.documents.parser_pool import ParserLimits
        from headwater.documents.personal import policies_of
        from headwater.documents.raw import update_raw
        from headwater.documents.suites import load_suite

        lake, chosen, keys = self.lake, self.settings, self.settings.shard_keys()
        lake.ensure()  # the marts read every table
        self._timed(
            "raw_documents",
            lambda: update_raw(lake, [self.source], keys, chosen.shards, chosen.max_document_bytes),
        )
        self._timed(
            "clean_documents",
            lambda: clean_documents(
                lake,
                keys,
                chosen.max_text_chars,
                quality_filter=chosen.quality_filter,
                personal=policies_of(chosen.document_pii, chosen.document_pii_kinds, {}),
                suite=load_suite("documents", chosen.expectations),
                limits=ParserLimits(
                    memory_mb=chosen.parser_memory_mb, seconds=chosen.parser_seconds
                ),
                children=chosen.threads,
            ),
        )
        self._timed("duplicates", lambda: find_duplicates(lake, chosen.duplicate_threshold))
        made = self._timed(
            "document_shards",
            lambda: shard_documents(lake, keys, chosen.chunk_tokens, chosen.embedding_model),
        )
        return int(made.chunks)

    def account(self) -> dict[str, Any]:
        """Where every document went, by the account that Dagster shows; faults are noted."""
        listed = len(list_items(self.source))
        accounts = accounting.account(self.lake)
        if [each.source for each in accounts] != [self.source.name]:
            raise HeadwaterError(
                f"{self.source.path} holds no document.", mend="Name a folder of documents."
            )
        (found,) = accounts
        with_chunks = len(self.lake.read("document_shards", columns=["uri"])["uri"].unique())
        for what, count in {
            "listed": listed,
            "indexed, duplicate, quarantined or filtered": found.documents - found.unaccounted,
        }.items():
            if count != found.documents:
                self.faults.append(f"{found.documents} documents came in, {count} are {what}")
        if with_chunks != found.indexed:
            self.faults.append(f"{found.indexed} documents are indexed, {with_chunks} have chunks")
        return {
            "documents": found.documents,
            **{fate: getattr(found, fate) for fate in FATES},
            "unaccounted": found.unaccounted,
            "reasons": dict(sorted(found.reasons.items())),
        }

    def mart(self, account: dict[str, Any]) -> dict[str, Any]:
        """The rows of `corpus_accounting` and `corpus_reasons`, and whether they say the same."""
        import pyarrow.parquet as pq

        from resources.warehouse import run_dbt

        target = self.settings.cache / "dbt" / "target"
        for place in (self.settings.warehouse, target):
            place.mkdir(parents=True, exist_ok=True)
        done = self._timed(
            "warehouse",
            lambda: run_dbt(
                ["build", "--exclude-resource-type", "unit_test",
                 "--indirect-selection", "cautious", "--select", *_MART],
                self.settings.root,
                target,
            ),
        )  # fmt: skip
        if done.exception is not None:
            raise HeadwaterError(
                f"dbt build failed: {done.exception}", mend=f"{target}/dbt.log has it all."
            )
        failed = [
            f"{each.node.name}: {each.status}"
            for each in done.result.results
            if str(each.status) in ("error", "fail")
        ]
        self.faults += failed
        if failed:
            return {"failed": failed}
        tables = {
            name: pq.read_table(self.settings.warehouse / f"{name}.parquet").to_pylist()
            for name in ("corpus_accounting", "corpus_reasons")
        }
        (row,) = tables["corpus_accounting"]
        told = {name: row[name] for name in ("documents", *FATES)}
        if told != {name: account[name] for name in told}:
            self.faults.append(f"the mart has {told}, the account {account}")
        reasons = [
            {name: each[name] for name in ("fate", "reason", "documents")}
            for each in tables["corpus_reasons"]
        ]
        return {**told, "reasons": reasons}

    def index(self, encoder: AnyEncoder) -> str:
        """Embed and publish; returns the version."""
        from headwater.embeddings.embed import embed_chunks
        from headwater.embeddings.index import publish_index

        keys, store = self.settings.shard_keys(), open_store(self.settings)
        self._timed("chunk_embeddings", lambda: embed_chunks(self.lake, keys, encoder))
        published = self._timed(
            "vector_index",
            lambda: publish_index(self.lake, store, model_digest=encoder.digest),
        )
        return str(published.version)

    def search(
        self, encoder: AnyEncoder, version: str, items: Sequence[GoldenItem]
    ) -> dict[str, Any]:
        """How well the index finds the documents that questions are about."""
        from headwater.embeddings.retrieve import open_retriever
        from headwater.evaluation.retrieval import MODES, evaluate_retrieval

        with open_retriever(open_store(self.settings), encoder, version) as retriever:
            report = evaluate_retrieval(items, retriever.retrieve)
        found = report.curated
        if found is None:
            raise HeadwaterError(
                "No question is about these documents.", mend="Give the folder of the questions."
            )
        return {
            "questions": found.items,
            "ndcg_at_10": {mode: asdict(found.modes[mode].ndcg_at_10) for mode in MODES},
            "recall": {mode: dict(found.modes[mode].recall) for mode in MODES},
            "not_in_first_ten": [row.id for row in report.rows if row.rank["fused"] is None],
        }

    def answers(self, version: str, items: Sequence[GoldenItem]) -> list[dict[str, Any]]:
        """What the base model says to questions, through an endpoint of this process."""
        from benchmarks.homes import make_release, promote
        from headwater.datasets.prompt import DEFAULT_PROMPT
        from headwater.serving.client import ask
        from headwater.serving.connect import connect
        from headwater.serving.credentials import client_key

        release = make_release(self.settings, index=version, prompt=DEFAULT_PROMPT)
        promote(self.settings, release)
        answers = []
        with connect(self.settings) as (url, _):
            for item in items:
                reply = ask(url, item.question, key=client_key(self.settings, url), timeout=600)
                cited = [str(citation["uri"]) for citation in reply["citations"]]
                answers.append(
                    {
                        "id": item.id,
                        "question": item.question,
                        "answer": reply["answer"],
                        "cited": cited,
                        "right_document_cited": not set(cited).isdisjoint(item.uris),
                    }
                )
        return answers

    def _timed(self, name: str, stage: Callable[[], Any]) -> Any:
        _say(f"{self.source.name}: {name}")
        started = time.monotonic()
        done = stage()
        self.seconds[name] = round(time.monotonic() - started, 1)
        return done


def unlisted(source: FolderSource) -> dict[str, int]:
    """How many files of a folder are no documents, by why.

    By suffix where the suffix is that of no format; others are hidden, not included, or links.
    """
    base = base_uri(source.name)
    listed = {item.uri for item in list_items(source)}
    counts: Counter[str] = Counter()
    for path in sorted(source.path.rglob("*")):
        relative = path.relative_to(source.path)
        if path.is_dir() or base + quote(os.fsencode(relative.as_posix())) in listed:
            continue
        if any(part.startswith(".") for part in relative.parts):
            counts["hidden"] += 1
        elif path.suffix.lower() not in MEDIA_TYPES:
            counts[path.suffix.lower() or "no suffix"] += 1
        elif path.is_symlink():
            counts["link that leads out, or nowhere"] += 1
        else:
            counts["not included"] += 1
    return dict(counts.most_common())


def try_docs(
    settings: Settings, folder: Path, include: Sequence[str], **asked: Any
) -> dict[str, Any]:
    """The documentation; `asked` as `measure` takes it."""
    source = FolderSource(
        name=python_docs.NAME,
        path=folder,
        licence=python_docs.LICENCE,
        include=list(include) or None,
    )
    trial = Trial(settings, source)
    return measure(trial, lambda: _golden(trial.lake), **asked)


def bad_files(outside: Path) -> list[BadFile]:
    """Files of the kinds of `BAD`; what they name outside of their folder lies in another one."""
    canaries = Canaries(outside)
    canaries.plant()
    kinds = bad_inputs(canaries, duplicates=1)
    return [file for kind in BAD for file in kinds[kind]]


def try_mixed(
    settings: Settings, folder: Path, bad: Sequence[BadFile], **asked: Any
) -> dict[str, Any]:
    """A folder of every format, written first; `asked` as `measure` takes it.

    Also tells, by suffix, what became of the sound documents (`sound`).
    """
    mixed = write(folder, bad)
    trial = Trial(settings, FolderSource(name=MIXED, path=folder))
    found = measure(trial, lambda: fact_questions(mixed.sound), **asked)
    rows = trial.lake.read("quarantine", columns=["uri", "reason"]).to_pylist()
    fates = {row["uri"]: row["reason"] for row in rows}
    chunks = trial.lake.read("document_shards", columns=["uri"])
    fates |= dict.fromkeys(chunks["uri"].unique().to_pylist(), "indexed")
    by_suffix = {suffix: fates.get(_uri(name), "duplicate") for suffix, name in mixed.sound.items()}
    for suffix, fate in by_suffix.items():
        if fate != "indexed" and not (suffix in PICTURES and fate == "no_ocr"):
            found["faults"].append(f"the sound {suffix} is not indexed: {fate}")
    return {**found, "sound": by_suffix}


def measure(
    trial: Trial,
    questions: Callable[[], list[GoldenItem]],
    *,
    mart: bool,
    embed: bool,
    answers: int,
) -> dict[str, Any]:
    """Every figure of a folder, and what must not be (`faults`).

    Args:
        questions: those about the documents that are there; asked for when these are clean.
        mart: whether dbt is to count the same.
        embed: whether an index is to be made and asked.
        answers: to how many questions the base model is to answer.
    """
    chunks = trial.build()
    account = trial.account()
    found: dict[str, Any] = {
        "not_documents": unlisted(trial.source),
        **account,
        "chunks": chunks,
        "mart": trial.mart(account) if mart else None,
        "search": None,
        "answers": None,
    }
    if embed or answers:
        encoder = open_encoder(
            trial.settings.embedding_model, trial.settings.threads, trial.settings.encoders
        )
        version, items = trial.index(encoder), questions()
        found["search"] = trial.search(encoder, version, items)
        if answers:
            some = items[:: max(1, len(items) // answers)][:answers]
            found["answers"] = trial.answers(version, some)
    return {**found, "seconds": trial.seconds, "faults": trial.faults}


def _golden(lake: Lake) -> list[GoldenItem]:
    from headwater.datasets.golden import build_golden_set, read_golden

    build_golden_set(lake, python_docs.GOLDEN, curated=())
    return [item for item in read_golden(lake) if not item.provisional]


def fact_questions(sound: dict[str, str]) -> list[GoldenItem]:
    """One question for each sound document; pictures may wait for a program."""
    return [
        GoldenItem(
            id=f"mixed-{suffix.removeprefix('.')}",
            question=FACTS[suffix].question,
            reference=FACTS[suffix].text,
            uris=(_uri(name),),
            category=suffix,
            provisional=False,
        )
        for suffix, name in sound.items()
        if suffix not in PICTURES
    ]


def _uri(name: str) -> str:
    return base_uri(MIXED) + quote(name.encode())


def show(name: str, found: dict[str, Any]) -> str:
    """One folder's figures as text."""
    fates = ", ".join(f"{found[fate]} {fate}" for fate in FATES)
    lines = [
        f"{name}: {found['documents']} documents = {fates}; {found['unaccounted']} unaccounted for;"
        f" {found['chunks']:,} chunks",
        f"  reasons: {_counts(found['reasons'])}",
        f"  no documents: {_counts(found['not_documents'])}",
    ]
    if found["mart"]:
        same = "as the account" if not found["faults"] else "see the faults"
        lines.append(f"  mart corpus_accounting: {same}")
    if search := found["search"]:
        figures = ", ".join(
            f"{mode} {value['mean']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
            for mode, value in search["ndcg_at_10"].items()
        )
        lines.append(f"  nDCG@10 of {search['questions']} questions: {figures}")
    if answers := found["answers"]:
        right = sum(each["right_document_cited"] for each in answers)
        lines.append(f"  {len(answers)} answers, {right} of them cite the right document")
    lines.append(f"  seconds: {_counts(found['seconds'])}")
    lines += [f"  FAULT: {fault}" for fault in found["faults"]]
    return "\n".join(lines)


def _counts(counts: dict[str, Any]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"


def _say(text: str) -> None:
    print(f"  {text} …", file=sys.stderr, flush=True)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help="docs, mixed; default: both")
    parser.add_argument(
        "--documents",
        type=Path,
        help=f"the documentation; default: {python_docs.VARIABLE}, else {python_docs.DEBIAN}",
    )
    parser.add_argument(
        "--include", action="append", default=[], help="of it only this glob; repeatable"
    )
    parser.add_argument("--embed", action="store_true", help="index, and ask the questions")
    parser.add_argument("--answers", type=int, default=0, help="answer so many; indexes, too")
    parser.add_argument("--no-mart", action="store_true", help="leave out dbt")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    chosen = parser.parse_args()
    parts = chosen.parts or PARTS
    if unknown := sorted(set(parts).difference(PARTS)):
        parser.error(f"there is no part {unknown[0]}")
    for name in [name for name in os.environ if name.startswith("HEADWATER_")]:
        del os.environ[name]  # the settings measured are the defaults
    quiet_libraries()
    asked = {"mart": not chosen.no_mart, "embed": chosen.embed, "answers": chosen.answers}
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        os.environ["HEADWATER_HOME"] = str(root / "home")  # nothing lands in the working folder
        if "docs" in parts:
            documents = python_docs.documentation(chosen.documents)
            settings = Settings(home=root / "docs-home")
            found["docs"] = try_docs(settings, documents, chosen.include, **asked)
        if "mixed" in parts:
            settings = Settings(home=root / "mixed-home")
            found["mixed"] = try_mixed(
                settings, root / "mixed", bad_files(root / "outside"), **asked
            )
    for name, figures in found.items():
        print(show(name, figures), file=sys.stderr if chosen.json else sys.stdout)
    if chosen.json:
        print(json.dumps(found))
    sys.exit(1 if any(figures["faults"] for figures in found.values()) else 0)


if __name__ == "__main__":
    main()
