from headwater.documents.formats.text import blocks
from headwater.documents.parsed import Block


def test_underlined_headings_by_order_of_appearance():
    text = "Title\n*****\n\nIntro\ntwo lines.\n\nPart\n====\nBody.\n\nSub\n---\n\nPart 2\n======\n\nEnd."
    assert [block for block in blocks(text) if block.text] == [
        Block("Title", 1),
        Block("Intro\ntwo lines."),
        Block("Part", 2),
        Block("Body."),
        Block("Sub", 3),
        Block("Part 2", 2),
        Block("End."),
    ]


def test_an_overlined_heading_is_a_style_of_its_own():
    text = "=====\nTitle\n=====\n\nPart\n====\n\nBody."
    found = [block for block in blocks(text) if block.text]
    assert found == [Block("Title", 1), Block("Part", 2), Block("Body.")]


def test_what_is_no_heading():
    for text in ("A long line of text\n---", "   indented\n==========", "----\n\nText", "a\n- b"):
        assert not any(block.level for block in blocks(text)), text


def test_signatures_are_sections_and_the_outer_one_goes_on_after_them():
    text = """Methods
=======

Intro.

str.x(a[, b])
class str.y

   Does x.

   Example.

str.z()

   Does z.

These are all.

For instance (see above)

Not a signature: no indented text follows."""
    assert [block for block in blocks(text) if block.text] == [
        Block("Methods", 1),
        Block("Intro."),
        Block("str.x(a[, b])\nclass str.y", 2, "str.x(a[, b]) class str.y"),
        Block("   Does x."),
        Block("   Example."),
        Block("str.z()", 2, "str.z()"),
        Block("   Does z."),
        Block("These are all.", 1, "Methods"),
        Block("For instance (see above)"),
        Block("Not a signature: no indented text follows."),
    ]


def test_borders_of_drawn_tables_go():
    text = "+----+----+\n| a  | b  |\n|====|====|\n| 1  | 2  |\n+----+----+"
    assert list(blocks(text)) == [Block("| a  | b  |\n| 1  | 2  |")]
