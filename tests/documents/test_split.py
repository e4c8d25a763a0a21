from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headwater.documents.parsed import Block, assemble
from headwater.documents.split import SHORT, Text, embed_text, split_text, split_texts
from headwater.documents.tokens import adds_up, token_counter
from headwater.records import Heading
from tests.documents.examples import MODEL, count_words

WORDS = (
    "harbour",
    "ferry",
    "tide",
    "berth",
    "anchor",
    "lantern",
    "cargo",
    "pilot",
    "buoy",
    "chart",
)


def prose(words, seed=0):
    """Sentences of ten words."""
    text = [WORDS[(seed * 7 + i * i) % len(WORDS)] for i in range(words)]
    return " ".join(
        " ".join(text[start : start + 10]).capitalize() + "." for start in range(0, words, 10)
    )


def split_blocks(blocks, max_tokens=100, count=count_words, title="T"):
    parsed = assemble(blocks, title)
    return parsed, split_text(parsed.text, title, parsed.headings, max_tokens, count)


texts = st.text(
    st.one_of(st.characters(codec="utf-8"), st.sampled_from("aZ .\n\n\u3002é汉\U0001f6a2\u0301")),
    max_size=300,
)


@given(text=texts, cuts=st.lists(st.integers(0, 300), max_size=5), bound=st.integers(8, 60))
@example(text="x" * 200, cuts=[], bound=8)
@example(text="\n\n\n", cuts=[1], bound=8)
@example(text="a" + "\u0301" * 150, cuts=[3], bound=32)
def test_spans_join_to_the_text_and_keep_their_bound(text, cuts, bound):
    """For any text and headings, under the real tokenizer."""
    starts = sorted({len(text[:cut].encode()) for cut in cuts if cut < len(text)})
    headings = [
        Heading(start=start, level=1 + number % 3, text=f"Heading {number}")
        for number, start in enumerate(starts)
    ]
    count = token_counter(MODEL)
    spans = split_text(text, "Title", headings, bound, count)
    assert "".join(span.text for span in spans) == text
    assert all(span.text for span in spans)
    # What is added up from counts between the cuts is what a count of the whole gives.
    document = Text(text, "Title", headings)
    both = split_texts([document, Text("", "", ()), document], bound, count, adds_up=adds_up(MODEL))
    assert both == [spans, [], spans]
    counts = count([embed_text(span.heading, span.text) for span in spans])
    assert counts == [span.tokens for span in spans]
    # One character alone may have more tokens than any bound.
    assert all(n <= bound or len(s.text) == 1 for n, s in zip(counts, spans, strict=True))


def test_a_span_starts_at_each_heading_and_carries_its_path():
    blocks = [Block("Guide", 1), Block(prose(60)), Block("Fees", 2), Block(prose(60, 1))]
    blocks += [Block("Winter", 3), Block(prose(60, 2)), Block("Tides", 2), Block(prose(60, 3))]
    parsed, spans = split_blocks(blocks)
    assert [span.heading for span in spans] == [
        "Guide",
        "Guide > Fees",
        "Guide > Fees > Winter",
        "Guide > Tides",
    ]
    assert all(
        parsed.text.encode()[heading.start :].decode().startswith(span.text[:10])
        for heading, span in zip(parsed.headings, spans, strict=True)
    )


def test_without_an_outer_heading_the_title_tells_the_document():
    _, spans = split_blocks([Block(prose(50)), Block("Fees", 2), Block(prose(50))], title="Guide")
    assert [span.heading for span in spans] == ["Guide", "Guide > Fees"]


def test_a_long_section_is_cut_between_paragraphs_then_sentences():
    _, spans = split_blocks([Block(prose(60)), Block(prose(30)), Block(prose(250))])
    assert [span.text.count("\n\n") for span in spans] == [2, 0, 0, 0]
    assert all(span.text.rstrip().endswith(".") for span in spans)
    assert max(span.tokens for span in spans) <= 100


def test_lines_words_and_characters_are_the_last_resorts():
    table = "\n".join("cell " * 9 + "end" for _ in range(30))
    _, spans = split_blocks([Block(table)])
    assert all(span.text.endswith("end\n") for span in spans[:-1])
    _, spans = split_blocks([Block("word " * 400)])
    assert all(span.text.endswith("word ") for span in spans[:-1])
    _, spans = split_blocks([Block("x" * 10_000)])
    assert len(spans) > 4


def test_short_neighbours_join_under_what_they_have_in_common():
    items = [block for n in range(4) for block in (Block(f"Item {n}", 2), Block(prose(20, n)))]
    _, spans = split_blocks([Block("List", 1), Block(prose(60)), *items])
    assert [span.heading for span in spans] == ["List", "List", "List"]
    assert [span.text.count("Item") for span in spans] == [0, 2, 2]
    assert all(span.tokens >= SHORT for span in spans)


def test_a_heading_alone_goes_with_what_follows():
    for filling in (50, 95, 200):
        blocks = [Block("Guide", 1), Block("Fees", 2), Block(prose(filling))]
        _, spans = split_blocks(blocks)
        assert spans[0].text.startswith("Guide\n\nFees\n\n")
        assert spans[0].tokens > 40
        assert {span.heading for span in spans} == {"Guide > Fees"}


def test_no_short_rest_where_its_neighbour_can_give():
    _, spans = split_blocks([Block(prose(40, n)) for n in range(2)] + [Block(prose(30))])
    assert min(span.tokens for span in spans) >= SHORT


@pytest.mark.parametrize("length", [10, 40, 90])
def test_an_edit_moves_no_boundary_of_other_sections(length):
    def spans(middle):
        blocks = [Block("Guide", 1), Block(prose(150))]
        for number, words in enumerate((180, middle, 220)):
            blocks += [Block(f"Part {number}", 2), Block(prose(words, number))]
        _, found = split_blocks(blocks)
        return {span for span in found if "Part 1" not in span.heading}

    assert spans(60 + length) == spans(60)


def test_a_long_path_is_shortened_from_outside_then_cut():
    blocks = [Block("Guide", 1), Block("f(" + "argument, " * 10 + ")", 2), Block(prose(20))]
    _, spans = split_blocks(blocks, max_tokens=36)
    assert {span.heading for span in spans} == {"Guide > f(...)"}
    blocks = [Block("outer " * 20, 1), Block("inner " * 20, 2), Block(prose(90))]
    _, spans = split_blocks(blocks)
    assert spans[-1].heading == " ".join(["inner"] * 20)
    blocks = [Block("endless " * 20, 1), Block(prose(20))]
    _, spans = split_blocks(blocks, max_tokens=40)
    assert all(count_words([span.heading])[0] <= 13 for span in spans)


def test_sections_below_a_resumed_heading_are_not_swallowed():
    """Text that goes on with an outer section stays under the outer heading."""
    blocks = [Block("Guide", 1), Block(prose(60)), Block("f()", 2), Block(prose(60))]
    blocks += [Block(prose(60, 5), 1, "Guide"), Block("g()", 2), Block(prose(60))]
    _, spans = split_blocks(blocks)
    assert [span.heading for span in spans] == ["Guide", "Guide > f()", "Guide", "Guide > g()"]


def test_the_bound_holds_where_parts_count_less_than_their_sum():
    def count_pairs(texts):
        """A fake counter that is not additive: a joint costs as much as a word."""
        return [max(0, 2 * len(text.split()) - 1) for text in texts]

    parsed, spans = split_blocks([Block("word " * 90)], max_tokens=20, count=count_pairs)
    assert "".join(span.text for span in spans) == parsed.text
    assert max(count_pairs([embed_text(span.heading, span.text)])[0] for span in spans) <= 20


def test_boundaries_are_contiguous_in_bytes():
    parsed, spans = split_blocks([Block("Ünï", 1), Block("é" * 400 + ". " + prose(200))])
    offsets = [0]
    for span in spans:
        offsets.append(offsets[-1] + len(span.text.encode()))
    assert offsets[-1] == len(parsed.text.encode())
    assert all(end > start for start, end in pairwise(offsets))
