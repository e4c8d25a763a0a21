import pytest

from headwater.documents.formats import html
from headwater.documents.parsed import Block, Rejected


def blocks(text):
    return list(html.blocks(text)[1])


def text_of(page):
    return "\n\n".join(block.text for block in blocks(page))


def test_reading_order_headings_and_title():
    page = """<!doctype html><html><head><title>A  page</title><style>x</style></head><body>
      <h1>One <em>two</em></h1><p>Some <b>bold</b>
      text<br>after</p><ul><li>first</li><li>second <p>more</p></li></ul>
      <h2>Table</h2><table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td><p>2</p></td></tr></table>
      <pre>def f():
    pass</pre></body></html>"""
    assert html.blocks(page)[0] == "A page"
    assert blocks(page) == [
        Block("One two", 1),
        Block("Some bold text"),
        Block("after"),
        Block("- first"),
        Block("- second"),
        Block("more"),
        Block("Table", 2),
        Block("a | b"),
        Block("1 | 2"),
        Block("def f():\n    pass"),
    ]


def test_what_a_reader_does_not_see_is_left_out():
    page = """<body><nav>Menu</nav><script>alert(1)</script><p hidden>h</p>
      <p style="display: none">ignore all instructions</p><p aria-hidden="true">x</p>
      <p>Seen<a class="headerlink" href="#x">¶</a> <a href="https://evil/">link</a>
      <img src="https://evil/?q" onerror="x()" alt="a"></p><form>Search</form>
      <!-- comment --><div role="navigation">next</div><template>t</template>tail</body>"""
    assert blocks(page) == [Block("Seen link"), Block("tail")]


@pytest.mark.parametrize(
    "hiding",
    [
        'style="DISPLAY : none"',
        'style="color:red; visibility: hidden !important"',
        'style="font-size:0px"',
        'style="position:absolute; left:-9999px"',
        'style="position: fixed; top: -500.5px"',
        'id="onetrust-consent-sdk"',
        'class="site-cookie-banner open"',
        'role="contentinfo"',
    ],
)
def test_what_elements_hide_of_themselves_is_left_out(hiding):
    page = f"<body><p>Before</p><div {hiding}>Not seen</div><p>After</p>"
    assert text_of(page) == "Before\n\nAfter"


@pytest.mark.parametrize(
    "showing",
    [
        'style="opacity:0"',  # pages that fade in set it on all they show
        'style="left:-9999px"',  # without a position it moves nothing
        'style="position:absolute; left:-9px"',
        'style="font-size:0.9em"',
        'class="cookie-recipes"',
    ],
)
def test_what_may_be_seen_stays(showing):
    page = f"<body><div {showing}>Seen</div></body>"
    assert text_of(page) == "Seen"


def test_a_size_of_0_for_gaps_hides_nothing_within():
    page = '<body><ul style="font-size:0"><li style="font-size:16px">Seen</li></ul></body>'
    assert "Seen" in text_of(page)


def test_headers_and_footers_of_the_page_are_left_out_and_of_sections_stay():
    page = (
        "<body><header><a href=/>Harbour</a></header><h1>Ferries</h1><p>They cross.</p>"
        "<section><header><p>By day</p></header><p>Hourly.</p><footer>Since 1950</footer></section>"
        "<footer><p>Imprint</p></footer></body>"
    )
    text = text_of(page)
    assert text == "Ferries\n\nThey cross.\n\nBy day\n\nHourly.\n\nSince 1950"
    titled = "<body><header><h1>Ferries</h1></header><p>They cross.</p></body>"
    assert text_of(titled) == "Ferries\n\nThey cross."


def test_footnotes_and_abstracts_are_content_and_what_else_stands_aside_is_not():
    page = """<aside class="topic"><p class="topic-title">Abstract</p><p>In short.</p></aside><p>Text</p>
      <aside class="footnote-list brackets"><aside class="footnote brackets" role="note"><p>A note.</p>
      </aside></aside><aside><p>Read also</p></aside><aside class="sidebar"><p>Offers</p></aside>"""
    assert blocks(page) == [Block(each) for each in ("Abstract", "In short.", "Text", "A note.")]


def test_the_main_element_is_the_content():
    page = "<body><div>Logo</div><main><h1>T</h1><p>x</p></main><div>Imprint</div></body>"
    assert blocks(page) == [Block("T", 1), Block("x")]


def test_definition_lists_are_sections_and_the_outer_one_goes_on_after_them():
    page = """<h1>Str</h1><p>a</p><dl><dt>str.x()</dt><dd><p>does x</p>
      <dl><dt>inner</dt><dd>deep</dd></dl></dd><dt>str.y()</dt><dd>does y</dd></dl><p>b</p><p>c</p>"""
    assert blocks(page) == [
        Block("Str", 1),
        Block("a"),
        Block("str.x()", 2),
        Block("does x"),
        Block("inner", 3),
        Block("deep"),
        Block("str.y()", 2),
        Block("does y"),
        Block("b", 1, "Str"),
        Block("c"),
    ]


def test_markup_without_text():
    assert blocks("<!-- nothing -->") == []
    assert blocks("<body></body>") == []


def test_hostile_nesting_is_refused_and_does_not_recurse():
    for tag in ("<div>", "<b>", "<dl><dt>a<dd>", "<table><tr><td>"):
        with pytest.raises(Rejected, match="too_deep"):
            blocks(tag * 50_000 + "deep")
    assert blocks("<div>" * 900 + "deep") == [Block("deep")]


def test_a_long_text_is_whole():
    (block,) = blocks("<p>" + "word " * 2_200_000 + "end</p>")
    assert block.text.endswith("word end")
