from headwater.documents.formats import markdown
from headwater.documents.parsed import Block


def blocks(text):
    return list(markdown.blocks(text)[1])


def test_structure_without_markup():
    text = """# A *title* with `code`

A paragraph with a [link](https://evil/) and ![a picture](https://evil/x.png),
wrapped **over** lines.

Setext
------

- one
- two
  - inner

1. first
2. second

| a | b |
| - | - |
| 1 | `2` |

```python
def f():

    return 1
```

> quoted

<div onclick="x()">inline <script>no</script>html</div>
"""
    assert blocks(text) == [
        Block("A title with `code`", 1),
        Block("A paragraph with a link and a picture, wrapped over lines."),
        Block("Setext", 2),
        Block("- one"),
        Block("- two"),
        Block("  - inner"),
        Block("1. first"),
        Block("2. second"),
        Block("a | b"),
        Block("1 | `2`"),
        Block("def f():\n\n    return 1\n"),
        Block("quoted"),
        Block("inline html"),
    ]


def test_a_list_item_of_several_paragraphs():
    assert blocks("- one\n\n  more\n- two") == [Block("- one"), Block("more"), Block("- two")]


def test_front_matter_names_the_title():
    title, found = markdown.blocks("---\ntitle: 'My page'\ntags: [x]\n---\nText")
    assert title == "My page"
    assert list(found) == [Block("Text")]


def test_a_rule_is_no_front_matter():
    title, found = markdown.blocks("Text\n\n---\n\nMore")
    assert (title, list(found)) == ("", [Block("Text"), Block("More")])


def test_a_title_of_blanks_is_read_at_once():
    """The pattern that was here took the square of their number: hours."""
    title, _ = markdown.blocks(f"---\ntitle: x{' ' * 500_000}y  \n---\nText")
    assert title == f"x{' ' * 500_000}y"
