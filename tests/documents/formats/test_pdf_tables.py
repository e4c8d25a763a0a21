import io
from functools import partial

import pytest

from benchmarks.bad_inputs import make_pdf as bare_pdf
from headwater.documents.formats import pdf, pdf_tables
from headwater.documents.parse import parse
from headwater.documents.parsed import Note
from headwater.documents.parser_pool import ParserLimits, ParserPool, Unparsed
from tests.documents.examples import drawn

PROSE = "The harbour opens at six in the morning and closes when the last ferry has gone."
FEES = [["Boat", "Length", "Fee"], ["Dinghy", "up to 4 m", "3.50"], ["Yacht", "longer", "12"]]


def story(*flow):
    """A PDF of paragraphs (strings) and flowables."""
    from reportlab.lib.styles import getSampleStyleSheet
    from reportlab.platypus import Paragraph, SimpleDocTemplate

    body = getSampleStyleSheet()["BodyText"]
    buffer = io.BytesIO()
    flowables = [Paragraph(each, body) if isinstance(each, str) else each for each in flow]
    SimpleDocTemplate(buffer, invariant=True).build(flowables)
    return buffer.getvalue()


def table(rows, style=(), ruled=True, **options):
    from reportlab.lib.colors import black
    from reportlab.platypus import Table

    rules = [("GRID", (0, 0), (-1, -1), 0.5, black)] if ruled else []
    return Table(rows, style=[*rules, *style], **options)


def texts(content):
    return [block.text for block in pdf.blocks(content, 10**6)[1]]


def test_a_ruled_table_comes_as_rows_between_the_text_around_it():
    content = story(PROSE, table(FEES), "Fees apply to all boats.")
    assert texts(content) == [
        PROSE,
        "Boat | Length | Fee",
        "Dinghy | up to 4 m | 3.50",
        "Yacht | longer | 12",
        "Fees apply to all boats.",
    ]


def test_rows_of_rectangles_and_of_thin_filled_ones_are_tables_too():
    def boxes(canvas):
        for row, cells in enumerate([["Mon", "6-22"], ["Tue", "7-21"]]):
            for column, text in enumerate(cells):
                canvas.rect(72 + 100 * column, 600 - 20 * row, 100, 20)
                canvas.drawString(75 + 100 * column, 605 - 20 * row, text)

    def strips(canvas):
        for y in (620, 600, 580):
            canvas.rect(72, y, 200, 0.5, stroke=0, fill=1)
        for x in (72, 172, 272):
            canvas.rect(x, 580, 0.5, 40, stroke=0, fill=1)
        for y, left, right in ((605, "Mon", "6-22"), (585, "Tue", "7-21")):
            canvas.drawString(75, y, left)
            canvas.drawString(175, y, right)

    for draw in (boxes, strips):
        assert texts(drawn(draw)) == ["Mon | 6-22", "Tue | 7-21"]


def test_what_the_cells_of_a_form_draw_is_found_as_well():
    from reportlab.pdfgen.canvas import Canvas

    buffer = io.BytesIO()
    canvas = Canvas(buffer, invariant=True)
    canvas.beginForm("fees")
    canvas.grid([72, 172, 272], [580, 600, 620])
    for x, y, text in ((75, 605, "Mon"), (175, 605, "6-22"), (75, 585, "Tue"), (175, 585, "7-21")):
        canvas.drawString(x, y, text)
    canvas.endForm()
    canvas.doForm("fees")
    canvas.save()
    assert texts(buffer.getvalue()) == ["Mon | 6-22", "Tue | 7-21"]


def test_a_table_without_rules_stays_text():
    content = story(PROSE, table(FEES, ruled=False))
    assert texts(content) == [f"{PROSE} Boat Length Fee Dinghy up to 4 m 3.50 Yacht longer 12"]


def test_a_bar_in_a_cell_is_escaped_and_wrapped_lines_are_one():
    from reportlab.lib.styles import getSampleStyleSheet
    from reportlab.platypus import Paragraph

    wrapped = Paragraph(PROSE, getSampleStyleSheet()["BodyText"])
    content = story(table([["either|or", wrapped]], colWidths=[100, 120]))
    assert texts(content) == [f"either\\|or | {PROSE}"]


def test_merged_cells_are_said_once():
    rows = [["Opening hours", "", ""], ["Summer", "Mon", "6-22"], ["", "Tue", "7-21"]]
    spans = [("SPAN", (0, 0), (2, 0)), ("SPAN", (0, 1), (0, 2))]
    assert texts(story(table(rows, spans))) == [
        "Opening hours",
        "Summer | Mon | 6-22",
        "Tue | 7-21",
    ]


def test_a_table_over_three_pages_is_one_with_its_header_once():
    rows = [[f"B{number}", f"Boat number {number}"] for number in range(95)]
    content = story(PROSE, table([["Berth", "Boat"], *rows], repeatRows=1), "The end.")
    found = texts(content)
    assert found == [PROSE, "Berth | Boat", *map(" | ".join, rows), "The end."]


def test_a_header_is_kept_where_text_lies_between_two_tables():
    from reportlab.platypus import PageBreak

    content = story(table(FEES), PageBreak(), "In winter:", table(FEES))
    assert texts(content).count("Boat | Length | Fee") == 2


def test_columns_beside_a_table_keep_their_order():
    def draw(canvas):
        left = ["Boats pay for each", "night that they lie", "at a pier of ours."]
        right = ["Weather is told by", "the harbour office", "every morning."]
        for x, lines in ((72, left), (320, right)):
            for row, line in enumerate(lines):
                canvas.drawString(x, 760 - 14 * row, line)
        canvas.grid([72, 172, 272], [580, 600, 620])
        canvas.drawString(75, 605, "Mon")
        canvas.drawString(175, 605, "6-22")

    prose, row = texts(drawn(draw))
    assert prose == (
        "Boats pay for each night that they lie at a pier of ours."
        " Weather is told by the harbour office every morning."
    )
    assert row == "Mon | 6-22"


def test_boxes_charts_and_invisible_paths_are_no_tables(monkeypatch):
    read = []
    monkeypatch.setattr(pdf_tables, "_content", lambda page, text: read.append(page))

    def boxes(canvas):
        canvas.rect(60, 500, 400, 100)
        canvas.rect(60, 600, 400, 100)  # below each other: one column
        canvas.line(60, 750, 500, 750)
        canvas.drawString(72, 640, "A box with text.")

    def clipped(canvas):
        for x in (72, 172, 272):
            path = canvas.beginPath()
            path.rect(x, 580, 100, 20)
            canvas.clipPath(path, stroke=0, fill=0)
        canvas.drawString(75, 585, "A box with text.")

    for draw in (boxes, clipped):
        assert texts(drawn(draw)) == ["A box with text."]
    assert not read  # pdfplumber was not asked
    monkeypatch.undo()

    def chart(canvas):
        canvas.grid(range(100, 501, 50), range(100, 501, 50))
        canvas.drawString(72, 640, "A chart.")
        canvas.drawString(120, 120, "peak")

    assert texts(drawn(chart)) == ["A chart. peak"]


def lines(canvas, count):
    canvas.drawString(72, 760, "Text that stays.")
    for number in range(count):
        x = 10 + number % 500
        canvas.line(x, 10 + number % 7, x, 700 - number % 11)


def crossing(canvas, count=100):
    canvas.drawString(72, 800, "Text that stays.")
    canvas.grid([10 + 5 * at for at in range(count)], [10 + 7 * at for at in range(count)])


@pytest.mark.parametrize("draw", [lambda canvas: lines(canvas, 20_000), crossing])
def test_a_page_of_many_lines_is_not_searched_and_says_so(draw):
    content = drawn(draw)
    with ParserPool(ParserLimits()) as pool:
        asked = Unparsed(content=content, media_type="application/pdf", uri="docs:///map.pdf")
        (parsed,) = pool.map([asked])
    assert parsed.text == "Text that stays."
    (note,) = parsed.notes
    assert note.startswith("not searched for tables: page 1 (more lines, crossings")


def test_a_document_of_many_tables_is_searched_as_far_as_the_budget_goes(monkeypatch):
    def fees(canvas):
        canvas.grid([72, 172, 272], [580, 600, 620])
        canvas.drawString(75, 605, f"Day {canvas.getPageNumber()}")
        canvas.drawString(175, 605, "6-22")

    content = drawn(fees, pages=12)
    monkeypatch.setattr(pdf, "TableSearch", partial(pdf_tables.TableSearch, budget=20_000))
    *blocks, note = pdf.blocks(content, 10**6)[1]
    rows = [f"Day {page} | 6-22" if page <= 3 else f"Day {page} 6-22" for page in range(1, 13)]
    assert [block.text for block in blocks] == rows
    assert note == Note(
        "not searched for tables: page 4, 5, 6, 7, 8 and 4 more"
        " (more pages with tables than are looked at)"
    )


def test_what_pdfplumber_cannot_read_stays_as_pypdf_reads_it(monkeypatch):
    content = story(PROSE, table(FEES))
    plain = [f"{PROSE} Boat Length Fee Dinghy up to 4 m 3.50 Yacht longer 12"]

    def refuse(*_arguments, **_options):
        raise ValueError("broken")

    monkeypatch.setattr("pdfminer.pdfinterp.PDFPageInterpreter.process_page", refuse)
    parsed = parse(content, "application/pdf", "docs:///a.pdf")
    assert parsed.text.split("\n\n") == plain
    assert parsed.notes == ("not searched for tables: page 1 (pdfplumber fails there: ValueError)",)


def test_a_page_on_which_pdfplumber_finds_less_text_stays(monkeypatch):
    content = story(PROSE, table(FEES))
    monkeypatch.setattr(pdf_tables, "_SAME_TEXT", 2)
    parsed = parse(content, "application/pdf", "docs:///a.pdf")
    assert "Boat Length Fee" in parsed.text
    assert parsed.notes == (
        "not searched for tables: page 1 (pdfplumber finds another text there)",
    )


def rewritten(content, change):
    """The PDF after a change by pypdf."""
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(content)))
    change(writer)
    buffer = io.BytesIO()
    writer.write(buffer)
    return buffer.getvalue()


def test_a_file_locked_with_the_empty_password_has_tables():
    def lock(writer):
        writer.encrypt("", algorithm="AES-256")

    assert "Dinghy | up to 4 m | 3.50" in texts(rewritten(story(table(FEES)), lock))


def test_a_turned_page_has_tables_where_its_text_stands_upright():
    def landscape(canvas):
        canvas.setPageRotation(90)
        canvas.rotate(90)
        canvas.translate(0, -500)
        canvas.grid([72, 172, 272], [380, 400, 420])
        for x, y, text in ((75, 405, "Mon"), (175, 405, "6-22"), (75, 385, "Tue")):
            canvas.drawString(x, y, text)

    assert texts(drawn(landscape)) == ["Mon | 6-22", "Tue"]
    turned = rewritten(story(table(FEES)), lambda writer: writer.pages[0].rotate(90))
    row, note = texts(turned)
    assert row == "Boat Length Fee Dinghy up to 4 m 3.50 Yacht longer 12"
    assert "on its side" in note


def test_operands_that_are_no_numbers_cost_nothing():
    body = (
        b"(a) /b 1 2 re << >> 2 l 1e999 -1e999 m 9 l 1 re S 1 2 3 4 5 6 7 re S q [1] 2 cm"
        + b"1" * 100
        + b" 0 m 1 2 l S BT /F1 12 Tf 72 700 Td (Text) Tj ET "
    )
    page = (
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 5 0 R"
        b" /Resources << /Font << /F1 3 0 R >> >> >>"
    )
    content = bare_pdf([
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [4 0 R] /Count 1 >>",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        page,
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(body), body),
    ])  # fmt: skip
    assert texts(content) == ["Text"]
