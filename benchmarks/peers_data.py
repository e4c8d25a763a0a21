"""The data layer beside datatrove, LlamaIndex, LangChain's splitters and sentence-transformers.

`python -m benchmarks.peers_data --json` makes a corpus of HTML by code, one page in five a
near-duplicate of an earlier one, and has every program parse it, cut it into chunks, leave
duplicates out, do all of that from end to end, and again with nothing changed. Each run is a process
of its own on the same cores, with the same bounds, one after the other, and the order alternates;
loading libraries is not measured, which a small run after start sees to. With `--documents FOLDER` the
pages of a folder are read instead; of those nobody knows which are duplicates.

The others are installed into an environment of their own on the first run, below HEADWATER_HOME or
where `--env` says, from benchmarks/peers_requirements.txt. Prints one JSON object a line for each
stage and program, and a table; fails where one that was to be measured was not.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.homes import REPOSITORY
from benchmarks.peers import environment, figures
from benchmarks.peers.contract import AGAIN, CHUNKING, DUPLICATES, END_TO_END, Facts, Request, made
from benchmarks.peers.figures import Measured, Row
from benchmarks.peers.known import HEADWATER, PEERS, STAGES, Peer
from benchmarks.peers.pages import Inputs, of_folder, synthetic
from headwater.documents.signature import SHINGLE
from headwater.documents.tokens import tokenizer_file
from headwater.errors import HeadwaterError
from headwater.settings import Settings, quiet_libraries

REQUIREMENTS = Path(__file__).with_name("peers_requirements.txt")
EMBEDDING = "embedding"
#: Runs of a stage, of which the median counts; what takes longer than SHORT seconds runs once.
ROUNDS, SHORT = 3, 30.0
#: Seconds after which a run is given up.
LIMIT = 3_600.0
#: Stages that read texts, where the others read pages.
_OF_TEXTS = (CHUNKING, DUPLICATES)

#: One run of a stage: seconds and facts.
Run = Callable[[Peer, str], tuple[float, Facts]]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Where and with what bounds programs are run.

    Args:
        root: a folder for all that they write.
        python: the peers'; ours is this process's.
    """

    root: Path
    python: Path
    inputs: Inputs
    settings: Settings
    threads: int
    known: Mapping[str, str] = field(default_factory=dict)

    def run(self, peer: Peer, stage: str) -> tuple[float, Facts]:
        """One run of a stage in a process of its own; `again` follows an end to end."""
        state = self.root / "state" / peer.module / (peer.variant or str(peer.processes))
        if stage == AGAIN and not state.exists():
            self._run(peer, END_TO_END, state)
        elif stage == END_TO_END:
            shutil.rmtree(state, ignore_errors=True)
        return self._run(peer, stage, state)

    def _run(self, peer: Peer, stage: str, state: Path) -> tuple[float, Facts]:
        output = self.root / "output" / peer.module
        shutil.rmtree(output, ignore_errors=True)
        request = Request(
            stage=stage,
            pages=str(self.inputs.pages),
            texts=str(self.inputs.texts),
            output=str(made(output)),
            state=str(made(state)),
            warm_pages=str(self.inputs.warm_pages),
            warm_texts=str(self.inputs.warm_texts),
            model=self.settings.embedding_model,
            tokenizer=str(tokenizer_file(self.settings.embedding_model)),
            max_tokens=self.settings.chunk_tokens,
            threshold=self.settings.duplicate_threshold,
            shingle=SHINGLE,
            threads=self.threads,
            processes=peer.processes or self.threads,
            variant=peer.variant,
        )
        python = sys.executable if peer is HEADWATER else str(self.python)
        command = [python, "-W", "ignore", "-m", "benchmarks.peers.run", peer.module]
        said = in_process(
            [*command, request.to_json()], surroundings(os.environ, self.threads), LIMIT
        )
        return figures.read_reply(peer.name, said)

    def version(self, peer: Peer) -> str:
        return self.known.get(peer.distribution, "")


def surroundings(environ: Mapping[str, str], threads: int) -> dict[str, str]:
    """What a measured process gets to see: no setting of ours, no network, no more threads."""
    ours = ("HEADWATER_", "PYTHONPATH", "PYTHONHOME")
    kept = {name: value for name, value in environ.items() if not name.startswith(ours)}
    pools = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
    return kept | dict.fromkeys(pools, str(threads)) | {"HF_HUB_OFFLINE": "1"}


def in_process(command: Sequence[str], environ: Mapping[str, str], limit: float) -> str:
    """What a command prints; it ends with all its children.

    Raises:
        HeadwaterError: it fails, or takes too long.
    """
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env=dict(environ),
        start_new_session=True,
    ) as process:
        try:
            said, complaints = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired as error:
            _end(process.pid)
            raise HeadwaterError(
                f"It took more than {limit:g} s.", mend="Measure fewer documents (--count)."
            ) from error
        except BaseException:
            _end(process.pid)
            raise
    if process.returncode:
        last = (complaints.strip() or said.strip() or "it said nothing").splitlines()[-1]
        raise HeadwaterError(
            f"It ended with {process.returncode}: {last[:300]}.",
            mend="Run its stage by hand: python -m benchmarks.peers.run.",
        )
    return said


def _end(group: int) -> None:
    """Kill a process and the children that are still its."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def rounds(
    run: Run, stage: str, peers: Sequence[Peer]
) -> tuple[dict[str, list[tuple[float, Facts]]], dict[str, str]]:
    """Runs of a stage by program, and why some failed; the order alternates from round to round."""
    found: dict[str, list[tuple[float, Facts]]] = {peer.name: [] for peer in peers}
    failed: dict[str, str] = {}
    for number in range(ROUNDS):
        for peer in peers if number % 2 == 0 else peers[::-1]:
            runs = found[peer.name]
            if peer.name in failed or (runs and runs[0][0] > SHORT):
                continue
            try:
                runs.append(run(peer, stage))
            except HeadwaterError as error:
                failed[peer.name] = error.what
                _say(f"{stage}, {peer.name}: {error}")
            else:
                _say(f"{stage}, {peer.name}: {runs[-1][0]:.2f} s")
    return found, failed


def stage_rows(bench: Bench, stage: str, peers: Sequence[Peer]) -> Iterator[Row]:
    """The rows of a stage, ours first."""
    concerned = [peer for peer in peers if stage in peer.stages]
    at_work = [HEADWATER, *(peer for peer in concerned if stage not in peer.lacks)]
    found, failed = rounds(bench.run, stage, at_work)
    ids = bench.inputs.text_ids if stage in _OF_TEXTS else bench.inputs.ids

    def measured(peer: Peer) -> Measured | None:
        if peer.name in failed:
            return None
        seconds = tuple(seconds for seconds, _ in found[peer.name])
        return Measured(seconds=seconds, facts=found[peer.name][-1][1], documents=len(ids))

    ours = measured(HEADWATER)
    for peer in [HEADWATER, *concerned]:
        version = bench.version(peer)
        if stage in peer.lacks:
            yield figures.lacking(stage, peer.name, version, peer.lacks[stage])
            continue
        theirs = measured(peer)
        if theirs is None:
            yield figures.failing(stage, peer.name, version, failed[peer.name])
            continue
        yield figures.row(
            stage,
            peer.name,
            version,
            theirs,
            ours=None if peer is HEADWATER else ours,
            planted=bench.inputs.planted,
            note=peer.notes.get(stage, ""),
        )


def embedding_rows(threads: int) -> list[Row]:
    """What `benchmarks.embedding` measures, as rows; it is in our own environment."""
    from importlib.metadata import version

    peer = "sentence-transformers"
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.embedding", "--json"]
    environ = surroundings(os.environ, threads) | {"HEADWATER_THREADS": str(threads)}
    try:
        said = in_process(command, environ, LIMIT)
    except HeadwaterError as error:
        return [figures.failing(EMBEDDING, peer, version(peer), error.what)]
    return figures.embedding(json.loads(said.splitlines()[-1]), version(peer))


def show(rows: Sequence[Row]) -> str:
    """The rows as a table of text."""
    from rich.console import Console
    from rich.table import Table

    table = Table(show_lines=False)
    for name in ("stage", "program"):
        table.add_column(name, no_wrap=True)
    for name in ("a second", "ours is", "F1"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("what came out; why ours is not ahead")
    table.add_column("ahead", no_wrap=True)
    stage = ""
    for row in rows:
        if stage and row["stage"] != stage:
            table.add_section()
        f1 = row.get("f1")
        table.add_row(
            row["stage"] if row["stage"] != stage else "",
            row["peer"],
            f"{row['per_s']:,.1f}" if "per_s" in row else "-",
            f"{row['ratio']:.2f} x" if "ratio" in row else "",
            "" if f1 is None else f"{f1:.4f}",
            _plain(_outcome(row)),
            {True: "yes", False: "no", None: ""}[row.get("ahead")],
        )
        stage = row["stage"]
    console = Console(width=150, no_color=True, highlight=False)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


def _outcome(row: Row) -> str:
    """What a row tells in words."""
    if "error" in row:
        return f"failed: {row['error']}"
    if not row["does"]:
        return f"does not: {row['reason']}"
    parts = []
    if row["stage"] == AGAIN:
        parts.append(f"{row['processed']:,} documents done again")
    elif "kept" in row:
        parts.append(f"{row['kept']:,} documents")
    if "characters" in row:
        parts.append(f"{row['characters']:,} characters")
    if "longest" in row and row["stage"] != AGAIN:
        parts.append(f"{row['chunks']:,} chunks, the longest of {row['longest']} tokens")
    said = ", ".join(parts)
    return "; ".join(part for part in (said, row.get("why", "")) if part)


def _plain(text: str) -> str:
    """Square brackets are not markup."""
    return text.replace("[", "\\[")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def measure(chosen: argparse.Namespace, keep: Callable[[Row], None]) -> None:
    """Run what was chosen; each row is handed on as soon as it is known."""
    settings = Settings()
    stages = chosen.stage or (*STAGES, EMBEDDING)
    peers = [peer for peer in PEERS if not chosen.peer or peer.name in chosen.peer]
    own = [stage for stage in STAGES if stage in stages]
    if own:
        _say("the environment of the others (a few minutes on the first run)")
        python = environment.make(chosen.env or settings.cache / "peers", REQUIREMENTS)
        with tempfile.TemporaryDirectory(dir=chosen.folder, prefix="headwater-peers-") as folder:
            root = Path(folder).resolve()
            if chosen.documents:
                inputs = of_folder(root, chosen.documents, chosen.threads)
            else:
                inputs = synthetic(root, chosen.count, chosen.threads)
            bench = Bench(
                root=root,
                python=python,
                inputs=inputs,
                settings=settings,
                threads=chosen.threads,
                known=environment.versions(python),
            )
            _say(f"{len(inputs.ids)} pages, {len(inputs.text_ids)} texts")
            for stage in own:
                for row in stage_rows(bench, stage, peers):
                    keep(row)
    if EMBEDDING in stages:
        for row in embedding_rows(chosen.threads):
            keep(row)


def _keep_file(chosen: argparse.Namespace, rows: Sequence[Row]) -> None:
    """Write the rows beside the other benchmarks' results; nothing in them names the host."""
    from benchmarks.__main__ import RESULTS, machine
    from headwater.files import write_json

    about, date = machine(), datetime.now(UTC).strftime("%Y-%m-%d")
    corpus: dict[str, Any] = {"documents": "a folder"} if chosen.documents else {}
    known = {"machine": about, "date": date, "threads": chosen.threads, **corpus}
    of = "_folder" if chosen.documents else ""
    path = RESULTS / f"peers{of}_{about['cores']}cores_{date}.json"
    write_json(path, {**known, "peers_data": list(rows)})
    _say(f"written: {path.name}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers_data", description=__doc__)
    parser.add_argument("--count", type=int, default=2_000, help="pages that are made by code")
    parser.add_argument("--documents", type=Path, help="a folder of HTML to read instead")
    parser.add_argument("--stage", action="append", choices=(*STAGES, EMBEDDING), help="repeatable")
    names = [peer.name for peer in PEERS]
    parser.add_argument("--peer", action="append", choices=names, help="repeatable; default all")
    parser.add_argument("--threads", type=int, default=2, help="cores, and processes, of each")
    parser.add_argument("--env", type=Path, help="where the environment of the others is made")
    parser.add_argument(
        "--folder", type=Path, help="below which everything else goes, until the end"
    )
    parser.add_argument("--keep", action="store_true", help="write it to benchmarks/results")
    parser.add_argument("--json", action="store_true", help="one JSON object a stage and program")
    return parser


def main() -> None:
    """Run from the command line."""
    chosen = _parser().parse_args()
    quiet_libraries()
    rows: list[Row] = []

    def keep(row: Row) -> None:
        rows.append(row)
        if chosen.json:
            print(json.dumps(row), flush=True)

    try:
        measure(chosen, keep)
    except HeadwaterError as error:
        sys.exit(f"error: {error.what}\n  mend: {error.mend}")
    print(show(rows), file=sys.stderr if chosen.json else sys.stdout)
    if chosen.keep:
        _keep_file(chosen, rows)
    sys.exit(1 if any("error" in row for row in rows) else 0)


if __name__ == "__main__":
    main()
