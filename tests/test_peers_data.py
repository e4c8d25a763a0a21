"""`benchmarks.peers_data`: what is counted, told and refused; no peer is installed for it."""

import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import peers_data
from benchmarks.homes import REPOSITORY
from benchmarks.peers import environment, figures, pages
from benchmarks.peers.contract import (
    AGAIN,
    CHUNKING,
    DUPLICATES,
    END_TO_END,
    PARSING,
    Request,
    read_texts,
)
from benchmarks.peers.figures import Measured, agreement
from benchmarks.peers.known import HEADWATER, PEERS, Peer
from benchmarks.peers.with_headwater import STAGES
from benchmarks.synthetic import Corpus
from headwater.documents.parse import parse
from headwater.documents.tokens import tokenizer_file
from headwater.errors import HeadwaterError
from tests.documents.examples import MODEL

COUNT, TOKENS = 20, 64


def test_agreement_counts_pairs():
    planted = [["a", "b", "c"], ["d", "e"]]
    assert agreement(planted, planted).f1 == 1.0
    # One of the three is missing, and one that is alone is taken for a copy.
    found = agreement([["a", "b"], ["d", "e", "f"]], planted)
    assert (found.precision, found.recall) == (2 / 4, 2 / 4)
    assert found.f1 == 0.5
    # All in one: 10 pairs, of which the 4 planted ones.
    lumped = agreement([["a", "b", "c", "d", "e"]], planted)
    assert (lumped.precision, lumped.recall) == (0.4, 1.0)


def test_agreement_where_nothing_is_found_or_planted():
    nothing = agreement([], [["a", "b"]])
    assert (nothing.precision, nothing.recall, nothing.f1) == (None, 0.0, 0.0)
    wrong = agreement([["a", "b"]], [])
    assert (wrong.precision, wrong.recall, wrong.f1) == (0.0, None, 0.0)
    assert agreement([], []).f1 == 1.0


def test_a_document_in_two_groups_is_refused():
    with pytest.raises(HeadwaterError, match="document b is in two groups"):
        agreement([["a", "b"], ["b", "c"]], [["a", "b"]])


def test_a_reply_is_the_last_line_whatever_was_said_before():
    said = 'Metadata length is close\n{"not": "this"}\n{"kept": 3, "seconds": 0.25}\n'
    assert figures.read_reply("x", said) == (0.25, {"kept": 3})


@pytest.mark.parametrize(
    "said",
    ["", "Traceback", "[1, 2]", '{"kept": 3}', '{"seconds": 0.0}', '{"seconds": "soon"}', "null"],
)
def test_no_figures_are_an_error_that_says_what_was_told_instead(said: str):
    with pytest.raises(HeadwaterError, match="datatrove told no figures") as caught:
        figures.read_reply("datatrove", said)
    assert (said or "nothing") in caught.value.what


def measured(seconds: float, groups: list[list[str]] | None = None) -> Measured:
    facts: dict[str, Any] = {"kept": 8, "groups": groups or []}
    return Measured(seconds=(9 * seconds, seconds, seconds / 9), facts=facts, documents=10)


PLANTED = [["a", "b"]]


@pytest.mark.parametrize(
    ("ours", "theirs", "ahead", "why"),
    [
        (measured(1, PLANTED), measured(2, PLANTED), True, ""),
        (measured(2, PLANTED), measured(1, PLANTED), False, "0.50 times as quick; a note"),
        (measured(1), measured(2, PLANTED), False, "F1 0.0000 against 1.0000; a note"),
        (measured(1), measured(2), True, ""),
        (measured(2), measured(1, PLANTED), False,
         "0.50 times as quick; F1 0.0000 against 1.0000; a note"),
    ],
)  # fmt: skip
def test_ahead_is_quicker_at_an_equal_or_better_f1(
    ours: Measured, theirs: Measured, ahead: bool, why: str
):
    row = figures.row(
        END_TO_END, "x", "1", theirs, ours=ours, planted=PLANTED, note="a note"
    )  # fmt: skip
    assert (row["ahead"], row["why"]) == (ahead, why)
    assert row["per_s"] == 10 / theirs.seconds[1]  # the median
    assert row["ratio"] == ours.per_s / theirs.per_s
    assert "groups" not in row


def test_only_stages_that_leave_out_are_judged_by_f1():
    faster, slower = measured(1), measured(2, PLANTED)
    row = figures.row(PARSING, "x", "1", slower, ours=faster, planted=PLANTED)
    assert row["ahead"] and "f1" not in row
    unknown = figures.row(END_TO_END, "x", "1", slower, ours=faster, planted=None)
    assert unknown["ahead"] and "f1" not in unknown
    own = figures.row(END_TO_END, "headwater", "", slower, planted=PLANTED)
    assert own["f1"] == 1.0 and "ahead" not in own


def test_embedding_becomes_two_rows():
    found = {
        "chunks": 4, "chunks_per_s": 60.0, "sentence_transformers_chunks_per_s": 40.0, "ratio": 1.5,
        "max_abs_difference": 1e-7,
    }  # fmt: skip
    ours, theirs = figures.embedding(found, "6.2")
    assert (ours["peer"], ours["per_s"], ours["unit"]) == ("headwater", 60.0, "chunks")
    assert (theirs["per_s"], theirs["ratio"], theirs["ahead"]) == (40.0, 1.5, True)


def test_the_order_alternates_and_what_takes_long_or_fails_is_not_repeated():
    names = ["a", "b", "slow", "broken"]
    peers = [replace(HEADWATER, name=name) for name in names]
    calls: list[str] = []

    def run(peer: Peer, stage: str) -> tuple[float, dict[str, Any]]:
        calls.append(peer.name)
        if peer.name == "broken":
            raise HeadwaterError("It broke.", mend="Mend it.")
        return peers_data.SHORT + 1 if peer.name == "slow" else 1.0, {"call": len(calls)}

    found, failed = peers_data.rounds(run, PARSING, peers)
    assert calls == ["a", "b", "slow", "broken", "b", "a", "a", "b"]
    assert [len(found[name]) for name in names] == [3, 3, 1, 0]
    assert failed == {"broken": "It broke."}


def test_a_stage_has_a_row_for_each_program_ours_first(tmp_path: Path):
    class Told(peers_data.Bench):
        def run(self, peer: Peer, stage: str) -> tuple[float, dict[str, Any]]:
            if peer.name == "c":
                raise HeadwaterError("No module.", mend="Install it.")
            return (1.0 if peer is HEADWATER else 2.0), {"kept": 2, "groups": [["a", "b"]]}

    inputs = pages.Inputs(
        pages=tmp_path, texts=tmp_path, warm_pages=tmp_path, warm_texts=tmp_path,
        ids=("a", "b", "c"), text_ids=("a", "b"), planted=(("a", "b"),),
    )  # fmt: skip
    bench = Told(
        root=tmp_path, python=tmp_path, inputs=inputs, settings=None, threads=2, known={"b": "1.2"}
    )  # type: ignore[arg-type]
    peers = [
        Peer(name="b", module="b", distribution="b"),
        Peer(name="c", module="c", distribution="c"),
        Peer(name="d", module="d", distribution="d", lacks={DUPLICATES: "it keeps all"}),
        Peer(name="e", module="e", distribution="e", stages=(PARSING,)),
    ]
    ours, other, broken, lacking = peers_data.stage_rows(bench, DUPLICATES, peers)
    assert (ours["peer"], ours["per_s"], ours["documents"]) == ("headwater", 2.0, 2)
    assert (other["version"], other["ratio"], other["ahead"]) == ("1.2", 2.0, True)
    assert (broken["error"], broken["ahead"]) == ("No module.", None)
    assert (lacking["does"], lacking["reason"]) == (False, "it keeps all")
    text = peers_data.show([ours, other, broken, lacking])
    assert "does not: it keeps all" in text and "failed: No module." in text and "yes" in text


def test_the_table_says_why_we_are_not_ahead():
    row = figures.row(PARSING, "x", "1", measured(1), ours=measured(2), note="reads [p] alone")
    text = peers_data.show([row])
    assert " no " in text and "0.50 times as quick; reads [p] alone" in text


FAKE_PYTHON = """#!/bin/sh
echo "$@" >> "{log}"
case "$2" in
  venv) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  pip) {pip} ;;
  *) echo '{{"datatrove": "0.10.1"}}' ;;
esac
"""


@pytest.fixture
def fake(tmp_path: Path) -> Callable[[str], Path]:
    """Makes a stand-in for Python that notes what it is asked."""

    def make(pip: str) -> Path:
        path = tmp_path / "python"
        path.write_text(FAKE_PYTHON.format(log=tmp_path / "log", pip=pip))
        path.chmod(0o755)
        return path

    return make


def test_an_environment_is_made_once_for_each_set_of_pins(
    tmp_path: Path, fake: Callable[[str], Path]
):
    pins = tmp_path / "pins.txt"
    pins.write_text("datatrove==0.10.1\n")
    python = str(fake("true"))
    inside = environment.make(tmp_path / "envs", pins, python)
    assert environment.versions(inside) == {"datatrove": "0.10.1"}
    asked = (tmp_path / "log").read_text().splitlines()
    assert asked[0].startswith("-m venv ") and asked[1].endswith(f"--requirement {pins}")
    assert environment.make(tmp_path / "envs", pins, python) == inside
    assert (tmp_path / "log").read_text().splitlines() == asked
    pins.write_text("datatrove==0.10.2\n")
    assert environment.make(tmp_path / "envs", pins, python) != inside


def test_an_environment_that_cannot_be_made_says_why_and_leaves_nothing(
    tmp_path: Path, fake: Callable[[str], Path]
):
    pins = tmp_path / "pins.txt"
    pins.write_text("datatrove==0.10.1\n")
    python = str(fake("echo 'ERROR: no such version' >&2; exit 1"))
    with pytest.raises(HeadwaterError, match=r"ended with 1: ERROR: no such version\.") as caught:
        environment.make(tmp_path / "envs", pins, python)
    assert "--env" in caught.value.mend
    assert list((tmp_path / "envs").iterdir()) == []
    with pytest.raises(HeadwaterError, match="cannot be made"):
        environment.make(tmp_path / "envs", pins, str(tmp_path / "nowhere"))


def test_peers_are_pinned_and_not_in_the_lock():
    pins = re.findall(r"^[^#\s].*$", peers_data.REQUIREMENTS.read_text(), re.MULTILINE)
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][0-9.]*", pin) for pin in pins)
    names = {pin.partition("==")[0] for pin in pins}
    peers = {peer.distribution for peer in PEERS}
    assert peers <= names
    lock = (REPOSITORY / "requirements.lock").read_text()
    assert not [name for name in peers if re.search(rf"^{name}==", lock, re.MULTILINE)]


def test_a_peer_module_imports_neither_headwater_nor_another_peer():
    for module in {peer.module for peer in PEERS}:
        text = (REPOSITORY / "benchmarks" / "peers" / f"{module}.py").read_text()
        roots = set(re.findall(r"^(?:from|import) (\w+)", text, re.MULTILINE))
        assert "headwater" not in roots
        others = {"datatrove", "llama_index", "langchain_text_splitters"} & roots
        assert len(others) == 1


def test_a_measured_process_sees_no_settings_and_no_more_threads():
    environ = {"HEADWATER_HOME": "x", "PYTHONPATH": "y", "PATH": "z", "OMP_NUM_THREADS": "64"}
    seen = peers_data.surroundings(environ, 2)
    assert "HEADWATER_HOME" not in seen and "PYTHONPATH" not in seen
    assert (seen["PATH"], seen["OMP_NUM_THREADS"], seen["RAYON_NUM_THREADS"]) == ("z", "2", "2")


def test_a_process_that_fails_or_takes_too_long_is_told_of():
    def ask(code: str, limit: float = 60) -> str:
        return peers_data.in_process([sys.executable, "-I", "-S", "-c", code], os.environ, limit)

    assert ask("print('hello')") == "hello\n"
    with pytest.raises(HeadwaterError, match="ended with 1: ValueError: no pages"):
        ask("raise ValueError('no pages')")
    with pytest.raises(HeadwaterError, match=r"took more than 0\.3 s"):
        ask("import time; time.sleep(600)", 0.3)


@pytest.fixture(scope="module")
def request_of(tmp_path_factory) -> Callable[[str], tuple[Request, pages.Inputs]]:
    root = tmp_path_factory.mktemp("peers")
    inputs = pages.synthetic(root, COUNT, files=2)

    def make(stage: str) -> tuple[Request, pages.Inputs]:
        output = root / stage
        output.mkdir(exist_ok=True)
        request = Request(
            stage=stage,
            pages=str(inputs.pages),
            texts=str(inputs.texts),
            output=str(output),
            state=str(root / "state"),
            warm_pages=str(inputs.warm_pages),
            warm_texts=str(inputs.warm_texts),
            model=MODEL,
            tokenizer=str(tokenizer_file(MODEL)),
            max_tokens=TOKENS,
            threshold=0.8,
            shingle=5,
            threads=2,
            processes=1,
        )
        assert Request.from_json(request.to_json()) == request
        return request, inputs

    return make


def test_pages_hold_their_texts_and_the_groups_are_those_of_the_corpus(request_of):
    request, inputs = request_of(PARSING)
    corpus = Corpus(COUNT)
    assert read_texts(request.texts) == [
        (name, corpus.text(number)) for number, name in enumerate(inputs.ids)
    ]
    copies = {number for number in range(COUNT) if corpus.is_copy(number)}
    assert copies
    for number in copies:
        pair = {inputs.ids[number], inputs.ids[corpus.original(number)]}
        assert [group for group in inputs.planted if pair <= set(group)]
    assert sum(len(group) - 1 for group in inputs.planted) == len(copies)
    page = (inputs.pages / inputs.ids[3]).read_bytes()
    text = parse(page, "text/html", "x.html").text
    assert [part for part in corpus.text(3).split("\n\n") if part not in text] == []
    assert "Made by code" not in text and "Index" not in text


def test_a_folder_of_pages_has_texts_and_no_truth(tmp_path: Path):
    folder = tmp_path / "site"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.html").write_text("<html><body><p>Snow is white.</p></body></html>")
    (folder / "sub" / "b.html").write_text("<html><body><p>Grass is green.</p></body></html>")
    (folder / "empty.html").write_text("<html><body></body></html>")
    inputs = pages.of_folder(tmp_path / "work", folder, files=2)
    assert inputs.ids == ("a.html", "empty.html", "sub/b.html")
    assert inputs.text_ids == ("a.html", "sub/b.html")
    assert inputs.planted is None
    with pytest.raises(HeadwaterError, match="holds 0 HTML pages"):
        pages.of_folder(tmp_path / "work", tmp_path / "nowhere", files=2)


def test_our_own_stages_tell_what_came_out(request_of):
    def told(stage: str) -> dict[str, Any]:
        request, _ = request_of(stage)
        facts = STAGES[stage](request)()
        return json.loads(json.dumps(facts))

    planted = request_of(PARSING)[1].planted
    copies = sum(len(group) - 1 for group in planted)
    parsed = told(PARSING)
    assert parsed["kept"] == COUNT and parsed["characters"] > 0
    chunked = told(CHUNKING)
    assert chunked["kept"] == COUNT < chunked["chunks"]
    assert 0 < chunked["longest"] <= TOKENS
    cut = told(DUPLICATES)
    assert cut["kept"] == COUNT - copies
    assert agreement(cut["groups"], planted).f1 == 1.0

    whole = told(END_TO_END)
    assert whole["processed"] == COUNT and whole["kept"] == COUNT - copies
    assert agreement(whole["groups"], planted).f1 == 1.0
    again = told(AGAIN)
    assert again == {**whole, "processed": 0}
