"""The pages in a real browser: ask, open a citation, correct, rate; no document runs a script."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.homes import build_index, passages, promote
from headwater.datasets.outliers import OutlyingDocument, save_outliers
from headwater.embeddings.encoder import Encoder
from headwater.release.manifest import Release
from headwater.serving.server import serve_in_thread
from headwater.serving.verdict_log import left_out
from headwater.settings import Settings
from tests.serving.browser import CHROMIUM, Page, open_browser
from tests.serving.conftest import Endpoint, copy_home, fill_lake, log_answer

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")

AFTER = "\n\nAnd more of the same document."
#: Each would set the canary, open a dialog or fetch from elsewhere if any of it became markup.
PAYLOADS = [
    "<script>window.canary=1</script>",
    "<img src=x onerror=window.canary=1>",
    "<img src=http://canary.invalid/leak.png>",
    "<svg onload=alert(1)>",
    "<svg><script>canary=1</script></svg>",
    "\"><script>alert('canary')</script>",
    "'-alert(1)-'",
    "javascript:window.canary=1",
    "[click](javascript:window.canary=1)",
    "![x](http://canary.invalid/leak.png)",
    "data:text/html,<script>window.canary=1</script>",
    "<iframe srcdoc='<script>parent.canary=1</script>'></iframe>",
    "<a href=javascript:canary=1 autofocus onfocus=canary=1>x</a>",
    "<input autofocus onfocus=window.canary=1>",
    "<details open ontoggle=window.canary=1>x</details>",
    "<style>@import 'http://canary.invalid/leak.css';</style>",
    "<link rel=stylesheet href=http://canary.invalid/leak.css>",
    "<meta http-equiv=refresh content='0;url=http://canary.invalid/'>",
    "<form action=http://canary.invalid/><button autofocus>x</button></form><base href=//canary.invalid/>",
    "</textarea></template></script><body onpageshow=window.canary=1>{{constructor.constructor('canary=1')()}}",
]


@pytest.fixture
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with open_browser(tmp_path_factory.mktemp("browser")) as page:
        yield page


@pytest.fixture
def endpoint(
    origin: Settings, make_release: Callable[..., Release], tmp_path: Path
) -> Iterator[Endpoint]:
    home = copy_home(origin, tmp_path)
    fill_lake(home, passages("old"), after=AFTER)
    release = make_release(home)
    promote(home, release)
    with serve_in_thread(home) as url:
        yield Endpoint(url, home, release)


def ask(page: Page, question: str) -> None:
    page.click("#question")
    page.write(question)
    page.key("Enter")
    page.wait("document.querySelector('.exchange:last-child .actions:not([hidden])')")


def text_of(page: Page, selector: str) -> str:
    return str(page.eval(f"document.querySelector({json.dumps(selector)}).textContent"))


def stream(answer: str, citations: list[dict[str, Any]]) -> bytes:
    """An answer as the endpoint streams it."""
    chunks = [
        {"choices": [{"delta": {"content": piece}}]} for piece in (answer[:3], answer[3:])
    ] + [{"choices": [{"delta": {}}], "citations": citations}]
    events = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
    return "".join([*events, "data: [DONE]\n\n"]).encode()


def quiet(page: Page, endpoint: Endpoint) -> None:
    """Nothing ran but our own scripts, and nothing was fetched from elsewhere."""
    assert page.eval("window.canary") is None
    assert page.dialogs == []
    assert page.console == []
    elsewhere = [url for url in page.requests if not url.startswith(f"{endpoint.url}/")]
    assert elsewhere == []


def test_ask_open_a_citation_judge_and_correct(page: Page, endpoint: Endpoint) -> None:
    page.open(endpoint.url)
    assert page.eval("document.activeElement.id") == "question"
    ask(page, "What is a headwater?")
    assert text_of(page, ".exchange .question") == "What is a headwater?"
    assert text_of(page, ".exchange .answer")
    assert endpoint.release.id[:8] in text_of(page, ".meta")

    uris = page.eval("[...document.querySelectorAll('.sources .uri')].map(e => e.textContent)")
    page.click(".sources button", uris.index("old:///rivers.md"))
    page.wait("document.querySelector('dialog[open] mark')")
    assert text_of(page, "dialog mark").startswith("A headwater is the beginning of a river")
    assert text_of(page, "dialog .text").endswith(AFTER)
    assert text_of(page, "dialog .uri") == "old:///rivers.md"
    assert page.eval("document.querySelector('dialog .note').hidden")
    page.key("Escape")
    page.wait("!document.querySelector('dialog[open]')")

    page.click(".thumb[data-thumb=down]")
    page.wait("document.querySelector('.thumb[data-thumb=down]').ariaPressed === 'true'")
    page.click(".correct")
    page.eval("document.querySelector('.correction textarea').select()")
    page.write("A spring in the mountains.")
    page.click(".correction fieldset label")
    page.click(".correction .primary")
    page.wait("document.querySelector('.said').textContent.includes('correction is noted')")
    rows = endpoint.said()
    assert [row["thumb"] for row in rows] == ["down", "down"]
    assert (rows[1]["correction"], rows[1]["tags"]) == (
        "A spring in the mountains.",
        ["wrong fact"],
    )
    assert rows[0]["trace"] == rows[1]["trace"]
    quiet(page, endpoint)


def test_a_changed_document_shows_the_passage_as_it_was_cited(
    page: Page, endpoint: Endpoint
) -> None:
    page.open(endpoint.url)
    ask(page, "What is a headwater?")
    fill_lake(endpoint.settings, passages("old"), before="Something new. ")
    page.click(".sources button")
    page.wait("document.querySelector('dialog[open] mark')")
    assert "changed since" in text_of(page, "dialog .note")
    shown = text_of(page, "dialog mark")
    assert shown in [row["text"] for row in passages("old")]


def test_rate_a_pair_with_one_key(page: Page, endpoint: Endpoint) -> None:
    mine = {"trace": "t1", "answer": "A spring in the mountains."}
    log_answer(endpoint.settings, mine, {"trace": "t2", "question": "Why do honey bees dance?"})
    page.open(f"{endpoint.url}/rate")
    page.wait("!document.getElementById('pair').hidden")
    first = text_of(page, "#question")
    assert page.eval("document.querySelectorAll('#passages button').length") > 0
    page.key("1")
    page.wait(f"document.getElementById('question').textContent !== {json.dumps(first)}")
    page.wait("!document.getElementById('pair').hidden")
    page.click("[data-choice=same]")
    page.wait("document.getElementById('note-title').textContent === 'Nothing to rate'")
    rows = endpoint.said()
    assert {row["trace"] for row in rows} == {"t1", "t2"}
    assert rows[0]["preferred"] in ("answer", "rival")
    assert rows[1]["preferred"] == "equal"
    quiet(page, endpoint)


@pytest.mark.parametrize(("key", "preferred"), [("=", "equal"), ("s", "skip")])
def test_the_other_keys(page: Page, endpoint: Endpoint, key: str, preferred: str) -> None:
    log_answer(endpoint.settings, {"trace": "t"})
    page.open(f"{endpoint.url}/rate")
    page.wait("!document.getElementById('pair').hidden")
    page.key(key)
    page.wait("document.getElementById('note-title').textContent === 'Nothing to rate'")
    assert [row["preferred"] for row in endpoint.said()] == [preferred]


def hostile(place: str) -> list[dict[str, Any]]:
    """One document a payload, which stands in its text, title, heading and URI."""
    return [
        {
            "id": f"{place}-{number}", "uri": payload if number % 2 else f"{place}:///{payload}",
            "title": payload, "heading": f"Canary {payload}", "start": 0,
            "end": len(f"The canary sings. {payload}".encode()),
            "text": f"The canary sings. {payload}",
        }
        for number, payload in enumerate(PAYLOADS)
    ]  # fmt: skip


def test_nothing_in_a_document_or_an_answer_ever_runs(
    page: Page,
    origin: Settings,
    encoder: Encoder,
    make_release: Callable[..., Release],
    tmp_path: Path,
) -> None:
    home = copy_home(origin, tmp_path)
    rows = hostile("bad")
    build_index(home, encoder, "hostile", rows)
    fill_lake(home, rows, before="", after=f"\n{PAYLOADS[1]}")
    release = make_release(home, index="hostile")
    promote(home, release)
    with serve_in_thread(home) as url:
        endpoint = Endpoint(url, home, release)
        page.open(url)
        ask(page, f"What does the canary sing? {PAYLOADS[1]}")  # the endpoint's own answer
        for at in range(page.eval("document.querySelectorAll('.sources button').length")):
            page.click(".sources button", at)
            page.wait("document.querySelector('dialog[open] mark')")
            page.click("dialog .close")

        for row in rows:  # a model that says whatever a document wants, citing each in turn
            shown = {
                name: row[name] for name in ("uri", "title", "heading", "start", "end", "text")
            }
            payload = str(row["title"])
            page.answer_with("/v1/chat/completions", stream(payload, [shown]))
            ask(page, payload)
            last = ".exchange:last-child"
            assert text_of(page, f"{last} .answer") == payload
            page.click(f"{last} .sources button")
            page.wait("document.querySelector('dialog[open] mark')")
            assert text_of(page, "dialog mark") == row["text"]
            assert text_of(page, "dialog .text").endswith(PAYLOADS[1])
            assert text_of(page, "dialog .uri") == row["uri"]
            page.click("dialog .close")
            page.click(f"{last} .correct")
            assert page.eval(f"document.querySelector('{last} textarea').value") == payload
        assert (
            page.eval("document.querySelectorAll('main script, main iframe, main img').length") == 0
        )
        quiet(page, endpoint)

        log_answer(
            home,
            *[
                {"question": f"{payload} and {n}", "answer": payload, "chunk_ids": (f"bad-{n}",)}
                for n, payload in enumerate(PAYLOADS)
            ],
        )
        page.open(f"{url}/rate")
        shown_answers: set[str] = set()
        while True:
            page.wait(
                "!document.getElementById('note-title').textContent.startsWith('Looking')"
                " || !document.getElementById('pair').hidden"
            )
            if page.eval("document.getElementById('pair').hidden"):
                break
            shown_answers |= {text_of(page, "#a"), text_of(page, "#b")}
            page.key("s")
            page.wait("document.getElementById('pair').hidden")
        assert text_of(page, "#note-title") == "Nothing to rate"
        assert len(shown_answers & set(PAYLOADS)) >= 10
        quiet(page, endpoint)


def test_judge_outliers_with_one_key_and_take_it_back(page: Page, endpoint: Endpoint) -> None:
    """Each payload stands in a title, heading, text, URI and neighbour; none becomes markup."""
    rows = hostile("odd")
    fill_lake(endpoint.settings, rows, after=f"\n{PAYLOADS[1]}")
    documents = [
        OutlyingDocument(
            id=str(number), uri=row["uri"], digest="d", title=row["title"], heading=row["heading"],
            start=0, end=row["end"], text=row["text"], distance=0.9, nearest=row["title"],
        )
        for number, row in enumerate(rows)
    ]  # fmt: skip
    save_outliers(endpoint.settings, documents)
    page.open(f"{endpoint.url}/outliers")
    for each in documents:
        shown = json.dumps(each.title)
        page.wait(f"document.getElementById('title').textContent === {shown}")
        page.wait("!document.getElementById('outlier').hidden")
        assert text_of(page, "#text") == each.text
        assert text_of(page, "#uri") == each.uri
        assert each.nearest in text_of(page, "#why")
        page.key("s" if each.id == "0" else "x" if each.id == "1" else "k")
    page.wait("document.getElementById('note-title').textContent === 'Nothing to judge'")
    assert [entry.uri for entry in left_out(endpoint.settings)] == [documents[1].uri]
    judged = "document.querySelectorAll('#verdicts li').length"
    assert page.eval(judged) == len(documents) - 1

    page.click("#again")  # what was skipped
    page.wait("!document.getElementById('outlier').hidden")
    page.click("#passages button")
    page.wait("document.querySelector('dialog[open] mark')")
    assert text_of(page, "dialog mark") == documents[0].text
    page.click("dialog .close")
    page.click("[data-choice=leave_out]")
    page.wait(f"{judged} === {len(documents)}")
    assert len(left_out(endpoint.settings)) == 2
    page.click("#verdicts button")  # the newest
    page.wait(f"{judged} === {len(documents) - 1}")
    assert [entry.uri for entry in left_out(endpoint.settings)] == [documents[1].uri]
    elements = "main script, main iframe, main img, main svg, main a, main form, main style"
    assert page.eval(f"document.querySelectorAll({json.dumps(elements)}).length") == 0
    quiet(page, endpoint)


@pytest.mark.parametrize("path", ["/", "/rate", "/outliers"])
def test_a_phone_needs_no_sideways_scroll_and_controls_have_names(
    page: Page, endpoint: Endpoint, path: str
) -> None:
    log_answer(endpoint.settings, {"trace": "t", "question": "w" * 300 + "?"})
    long = {"title": "t" * 200, "uri": "u" * 300, "heading": "h" * 200, "text": "x" * 2_000}
    one, two = (
        OutlyingDocument(id=name, digest="", start=0, end=9, distance=1, nearest="n" * 300, **long)
        for name in ("1", "2")
    )
    save_outliers(endpoint.settings, [one, two])
    page.size(375, 740, mobile=True)
    page.open(f"{endpoint.url}{path}")
    if path == "/":
        ask(page, "x" * 200)
        page.click(".correct")
    elif path == "/rate":
        page.wait("!document.getElementById('pair').hidden")
    else:
        page.wait("!document.getElementById('outlier').hidden")
        page.key("k")
        page.wait("document.querySelector('#verdicts li')")
        page.wait("!document.getElementById('outlier').hidden")
    assert page.eval("document.documentElement.scrollWidth") <= 375
    lines = "[...document.querySelectorAll('.brand, nav a')].map(e => e.getClientRects().length)"
    heights = "[...document.querySelectorAll('.brand, nav a')].map(e => e.offsetHeight)"
    assert set(page.eval(lines)) == {1} and max(page.eval(heights)) < 45, "no word is broken"
    nameless = page.eval(
        "[...document.querySelectorAll('button, textarea, input, a')].filter(e =>"
        " !(e.ariaLabel || e.textContent.trim() || e.labels?.length)).map(e => e.outerHTML)"
    )
    assert nameless == []
    small = page.eval(
        "[...document.querySelectorAll('button')].filter(e => e.offsetParent &&"
        " e.getBoundingClientRect().height < 40).map(e => e.outerHTML)"
    )
    assert small == []
