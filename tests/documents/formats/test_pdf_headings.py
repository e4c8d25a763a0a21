import io

from headwater.documents.formats import pdf
from headwater.documents.parse import parse
from headwater.documents.parsed import Block

PROSE = [
    "The harbour opens at six in the morning and closes when",
    "the last ferry has gone. Boats that arrive later wait at",
    "the outer pier until the next day.",
]
BODY = " ".join(PROSE)


def sized(*pages, outline=()):
    """A PDF of pages of (size, line) pairs; `outline` maps a page's number to its heading."""
    from reportlab.pdfgen.canvas import Canvas

    buffer = io.BytesIO()
    canvas = Canvas(buffer, invariant=True)
    for number, page in enumerate(pages):
        if number in dict(outline):
            canvas.bookmarkPage(str(number))
            canvas.addOutlineEntry(dict(outline)[number], str(number))
        y = 780.0
        for size, line in page:
            y -= 1.3 * size
            canvas.setFont("Helvetica", size)
            canvas.drawString(72, y, line)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def body(size=10):
    return [(size, line) for line in PROSE]


def blocks(content):
    return pdf.blocks(content, 10_000)[1]


def test_larger_letters_are_headings_by_their_sizes():
    page = [(24, "Harbour guide"), *body(), (16, "Fees"), *body(), (12, "Winter"), *body()]
    content = sized(page, [(16, "Weather"), *body()])
    assert blocks(content) == [
        Block("Harbour guide", 1), Block(BODY),
        Block("Fees", 2), Block(BODY),
        Block("Winter", 3), Block(BODY),
        Block("Weather", 2), Block(BODY),
    ]  # fmt: skip
    parsed = parse(content, "application/pdf", "docs:///a.pdf")
    assert parsed.title == "Harbour guide"
    assert [heading.text for heading in parsed.headings][1:] == ["Fees", "Winter", "Weather"]


def test_an_outline_goes_before_sizes():
    page = [(24, "Harbour guide"), *body(), (10, "Fees"), *body()]
    found = blocks(sized(page, outline={0: "Fees"}))
    assert [(each.text, each.level) for each in found if each.level] == [("Fees", 1)]
    # One that names no line of its page is none.
    found = blocks(sized(page, outline={0: "Chapter 1: charges"}))
    assert [(each.text, each.level) for each in found if each.level] == [("Harbour guide", 1)]


def test_what_is_large_and_no_heading():
    quote = [(14, line) for line in [*PROSE, *PROSE]]
    pages = [
        [(14, "Sailors' gazette"), *body(), (14, "T"), (14, "12"), *body()],
        [(14, "Sailors' gazette"), *body(), *quote, *body()],
        [(14, "Sailors' gazette"), *body(), (14, "All boats, always."), *body()],
    ]
    assert not any(block.level for block in blocks(sized(*pages)))


def test_a_little_larger_is_body():
    assert not any(block.level for block in blocks(sized([(10.5, "Fees"), *body()])))


def test_a_heading_over_two_lines_is_one_and_two_short_ones_are_two():
    long = ["What boats of more than twelve", "metres pay"]
    page = [*((20, line) for line in long), *body(), (20, "Fees"), (20, "Winter"), *body()]
    found = [block.text for block in blocks(sized(page)) if block.level]
    assert found == ["What boats of more than twelve metres pay", "Fees", "Winter"]


def test_sizes_count_as_they_are_drawn():
    """Many programs write size 1 and scale the text's or the page's matrix."""
    from reportlab.pdfgen.canvas import Canvas

    buffer = io.BytesIO()
    canvas = Canvas(buffer, invariant=True)
    canvas.setFont("Helvetica", 1)
    for y, (size, line) in zip(range(760, 0, -30), [(18, "Fees"), *body()], strict=False):
        text = canvas.beginText()
        text.setTextTransform(size, 0, 0, size, 72, y)
        text.setFont("Helvetica", 1)
        text.textOut(line)
        canvas.drawText(text)
    canvas.saveState()
    canvas.scale(18, 18)
    canvas.setFont("Helvetica", 1)
    canvas.drawString(4, 20, "Winter")
    canvas.restoreState()
    canvas.save()
    found = blocks(buffer.getvalue())
    assert [block.text for block in found if block.level] == ["Fees", "Winter"]


def test_two_columns_are_read_one_after_the_other():
    from reportlab.pdfgen.canvas import Canvas

    buffer = io.BytesIO()
    canvas = Canvas(buffer, invariant=True)
    canvas.setFont("Helvetica", 9)
    left, right = ["Boats pay for each", "night at a pier."], ["Weather is told", "every morning."]
    for x, lines in ((72, left), (320, right)):
        for row, line in enumerate(lines):
            canvas.drawString(x, 700 - 12 * row, line)
    canvas.save()
    assert blocks(buffer.getvalue()) == [
        Block("Boats pay for each night at a pier. Weather is told every morning.")
    ]
