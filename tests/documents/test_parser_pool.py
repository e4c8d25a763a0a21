import json
import logging
import os
import socket
import struct
import subprocess
import sys
import time
from functools import partial

import psutil
import pytest

from headwater.documents import clean, parser_pool
from headwater.documents.parse import parse
from headwater.documents.parsed import Parsed, Rejected
from headwater.documents.parser_pool import ParserLimits, ParserPool, Unparsed
from headwater.errors import HeadwaterError
from tests.documents.examples import PROSE, Corpus, make_pdf

MISBEHAVING = "tests.documents.misbehaving"


def document(text, name="a.txt", media_type="text/plain"):
    content = text.encode() if isinstance(text, str) else text
    return Unparsed(content=content, media_type=media_type, uri=f"docs:///{name}")


def frame(data):
    return struct.pack("!Q", len(data)) + data


def lie(*frames):
    return document(f"lie {b''.join(frames).hex()}")


def head(**odd):
    """The first frame of a reply, right but for what is given."""
    return frame(json.dumps({"cpu": 0, "title": "T", "notes": [], **odd}).encode())


@pytest.fixture
def misbehaving():
    with ParserPool(ParserLimits(seconds=30, memory_mb=256), entry=MISBEHAVING) as pool:
        yield pool


def test_outcomes_are_those_of_parsing_in_process_in_order():
    page = f"<title>T</title><h1>Ä</h1><p>{PROSE}<h2>Zwei</h2><p>{PROSE}"
    documents = [
        document(f"# Notes {number}\n\nÄ {PROSE}\n\n## Tides\n\n{PROSE}", "a.md", "text/markdown")
        for number in range(30)
    ]
    documents += [
        document(page, "a.html", "text/html"),
        document(make_pdf([["Harbour", "Fees apply."]], title="G"), "a.pdf", "application/pdf"),
        document(PROSE, "no-title.txt"),
        document(b""),
        document(b"x", media_type="application/x-unknown"),
    ]
    with ParserPool(children=2) as pool:
        found = pool.map(documents)
        again = pool.map(documents[:3])
    for each, outcome in zip(documents, found, strict=True):
        try:
            assert outcome == parse(each.content, each.media_type, each.uri, each.max_chars)
        except Rejected as error:
            assert isinstance(outcome, Rejected)
            assert (outcome.reason, outcome.detail) == (error.reason, error.detail)
    assert again == found[:3]


@pytest.mark.parametrize(
    ("order", "reason", "detail"),
    [
        ("abort", "parser_crashed", "signal"),
        ("exit", "parser_crashed", "exit code 3"),
        ("swell", "parser_memory", "HEADWATER_PARSER_MEMORY_MB"),
        ("raise", "parser_crashed", "KeyError: 'a fault' (misbehaving.py:"),
        ("recurse", "parser_crashed", "RecursionError"),
    ],
)
def test_a_dead_parser_costs_one_document(misbehaving, order, reason, detail):
    documents = [document("say one"), document(order), document("say two")]
    one, bad, two = misbehaving.map(documents)
    assert (one.text, two.text) == ("one", "two")
    assert (bad.reason, detail in bad.detail) == (reason, True), bad.detail


def test_a_stuck_parser_costs_one_document_and_does_not_hold_up_the_others():
    orders = [f"say {number}" for number in range(20)]
    with ParserPool(ParserLimits(seconds=2), children=3, entry=MISBEHAVING) as pool:
        hung, spun, *rest = pool.map([document(order) for order in ("hang", "spin", *orders)])
    assert [f"say {each.text}" for each in rest] == orders
    for each in (hung, spun):
        assert (each.reason, "HEADWATER_PARSER_SECONDS" in each.detail) == ("parser_timeout", True)
    assert 3 <= pool.started <= 5  # a child that was ended is replaced where work is left


def test_a_page_that_memory_does_not_suffice_for_is_not_taken_for_a_short_one():
    page = b"<p>" + b"<i>x</i>" * 500_000
    with ParserPool(ParserLimits(memory_mb=128)) as pool:
        (outcome,) = pool.map([document(page, "a.html", "text/html")])
    assert outcome.reason == "parser_memory"


@pytest.mark.parametrize("order", ["exit-if-used", "swell-if-used"])
def test_what_a_used_child_does_is_not_held_against_a_document(misbehaving, order):
    found = misbehaving.map([document("say one"), document(f"{order} two")])
    assert [each.text for each in found] == ["one", "two"]
    assert misbehaving.started == 2


@pytest.mark.parametrize(
    "reply",
    [
        lie(b"\xff" * 8),
        lie(frame(b"no JSON")),
        lie(frame(b"[" * 5000)),
        lie(frame(b"[1]")),
        lie(frame(b"{}")),
        lie(head(title=7), frame(b"x"), frame(b"")),
        lie(head(), frame(b"x"), frame(b"9 1 far")),
        lie(head(), frame(b"\xff"), frame(b"")),
        lie(head(), struct.pack("!Q", 2**40)),
        lie(head(notes=7), frame(b"x"), frame(b"")),
        lie(head(notes=["a note"] * 99), frame(b"x"), frame(b"")),
        lie(head(notes=["a note", 7]), frame(b"x"), frame(b"")),
        lie(head(notes=["a" * 999]), frame(b"x"), frame(b"")),
    ],
)
def test_a_reply_that_no_parser_would_give_is_not_believed(misbehaving, reply):
    bad, good = misbehaving.map([reply, document("say one")])
    assert isinstance(bad, Rejected)
    assert (bad.reason, good.text) == ("parser_crashed", "one")
    assert "makes no sense" in bad.detail


@pytest.mark.parametrize("size", [1, 2**17])
def test_a_reply_to_a_document_that_is_yet_to_come_is_not_taken(misbehaving, size):
    forged = frame(b"forged" * size)
    bad, good = misbehaving.map(
        [lie(head(), frame(b"x"), frame(b""), head(), forged, frame(b"")), document("say one")]
    )
    assert (bad.reason, bad.detail) == ("parser_crashed", "its parser said more than a reply")
    assert good.text == "one"


def test_a_note_is_taken_as_one_line_without_hidden_characters(misbehaving):
    told = lie(head(notes=["\u202eleft as\n it  was"]), frame(b"x"), frame(b""))
    assert misbehaving.map([told])[0].notes == ("left as it was",)


def test_what_a_parser_may_not_do(misbehaving, tmp_path, monkeypatch):
    monkeypatch.setenv("HEADWATER_API_KEY", "secret")
    canary = tmp_path / "canary"
    canary.write_text("secret")
    with socket.create_server(("127.0.0.1", 0)) as server:
        orders = [f"connect {server.getsockname()[1]}", "fork", "c-fork", "c-socket", "c-kill"]
        files = ("read", "write", "remove", "c-read", "c-write", "c-remove", "run")
        orders += [f"{what} {canary}" for what in files]
        found = misbehaving.map([document(f"try {order}") for order in orders])
        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.accept()
    for order, outcome in zip(orders, found, strict=True):
        assert outcome.text.startswith("refused"), order
    (environment,) = misbehaving.map([document("try environment")])
    assert "HEADWATER" not in environment.text
    assert "PYTHON" not in environment.text
    assert canary.read_text() == "secret"


def test_what_a_system_cannot_provide_is_said_once(caplog):
    with (
        caplog.at_level(logging.WARNING, "headwater"),
        ParserPool(entry="tests.documents.unconfined") as pool,
    ):
        pool.map([document("one")])
    (record,) = caplog.records
    assert record.getMessage() == (
        "parser processes run without: no network (Operation not permitted); limit AS (unknown)"
    )


def children() -> set[psutil.Process]:
    return set(psutil.Process().children())


def test_a_child_that_does_not_start_is_an_error_with_its_mend():
    before = children()
    with (
        ParserPool(entry="tests.documents.no_such_module") as pool,
        pytest.raises(HeadwaterError, match=r"does not start.*exit code 1"),
    ):
        pool.map([document("one")])
    assert children() <= before


def test_children_end_with_the_pool(misbehaving):
    before = children()
    misbehaving.map([document("say one")])
    (child,) = children() - before
    misbehaving.close()
    assert not child.is_running()


def test_a_busy_child_ends_with_its_parent():
    script = (
        "from headwater.documents.parser_pool import *\n"
        f"ParserPool(ParserLimits(seconds=600), entry={MISBEHAVING!r}).map("
        "[Unparsed(content=b'spin', media_type='text/plain', uri='a')])"
    )
    with subprocess.Popen([sys.executable, "-c", script], env=os.environ) as parent:
        children: list[psutil.Process] = []
        while not children or children[0].cpu_times().user < 0.3:
            children = psutil.Process(parent.pid).children()
            time.sleep(0.02)
        parent.kill()
    psutil.wait_procs(children, timeout=20)
    assert not [each for each in children if each.is_running() and each.status() != "zombie"]


def test_nothing_changed_starts_no_child(three: Corpus, monkeypatch):
    three.raw()
    first = three.clean()

    def started(*_, **__):
        raise AssertionError("a child was started")

    monkeypatch.setattr(parser_pool.subprocess, "Popen", started)
    assert three.clean().digest == first.digest
    three.write("notes.md", "# Other")
    three.raw()
    with pytest.raises(AssertionError, match="a child was started"):
        three.clean()


def test_a_higher_limit_parses_again_what_a_lower_one_stopped(three: Corpus, monkeypatch):
    monkeypatch.setattr(clean, "ParserPool", partial(ParserPool, entry=MISBEHAVING))
    three.write("guide.html", "<p>a")
    three.write("notes.md", "say something")
    three.write("plain.txt", "hang")
    three.raw()
    limits = ParserLimits(seconds=0.5)
    assert three.clean(limits=limits).quarantined == 1
    assert three.reasons() == {"plain.txt": "parser_timeout"}
    assert three.clean(limits=limits).processed == 0
    stats = three.clean(limits=ParserLimits(seconds=0.6))
    assert (stats.processed, stats.quarantined) == (1, 1)


def test_sound_documents_are_accepted(misbehaving):
    """The fakes above do parse, or their refusals would prove nothing."""
    (outcome,) = misbehaving.map([document(f"say {PROSE}")])
    assert isinstance(outcome, Parsed)
