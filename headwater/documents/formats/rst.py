"""reStructuredText to blocks: sections, lists, tables and code; comments and targets go.

Nothing outside the text is read: insertion of files and raw output are off. The directives and
roles that docutils does not know are mostly Sphinx's: what they hold is read, the markup goes.
"""

import re
from collections.abc import Iterator
from typing import Any

from headwater.documents.parsed import Block, Rejected, damaged, fold

#: Docutils' own bound; its expressions are slow on longer lines.
MAX_LINE = 10_000
#: Directives within directives that docutils does not know.
_MAX_DEPTH = 8
#: What docutils raises on hostile text besides its own errors.
_DAMAGE = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)
_SETTINGS: dict[str, Any] = {
    "_disable_config": True,  # files in the working folder do not change what a document says
    "file_insertion_enabled": False,
    "raw_enabled": False,
    "halt_level": 5,
    "report_level": 5,
    "warning_stream": False,
    "syntax_highlight": "none",
    "smart_quotes": False,
    "doctitle_xform": False,
    "docinfo_xform": False,
    "line_length_limit": MAX_LINE,
}
_DIRECTIVE = re.compile(r"\.\. +([\w.:+-]+) *::[ \t]*")
_OPTION = re.compile(r":[\w-]+:(?:[ \t]|$)")
_ROLE = re.compile(r"^(?::[\w:.+-]+:)?`(.*)`(?::[\w:.+-]+:)?$", re.DOTALL)
_TARGET = re.compile(r"^(.+?)\s*<[^<>]*>$", re.DOTALL)
#: Sphinx's directives that hold nothing to read ...
_SILENT = {
    "toctree", "index", "currentmodule", "py:currentmodule", "highlight", "automodule",
    "autoclass", "autofunction", "automethod", "autosummary", "tabularcolumns", "sectionauthor",
    "codeauthor", "contents", "testsetup", "testcleanup", "graphviz", "plot", "literalinclude",
}  # fmt: skip
#: ... and those that describe an object: a section called by their argument.
_DESCRIBING = {
    "function", "class", "method", "attribute", "data", "exception", "module", "property",
    "classmethod", "staticmethod", "decorator", "option", "envvar", "program", "describe", "object",
    "macro", "type", "struct", "var", "member", "enum", "confval", "setting", "opcode", "pdbcommand",
}  # fmt: skip
_CODE = {"ipython", "sourcecode", "testcode", "doctest", "prompt", "productionlist"}


def blocks(text: str) -> tuple[str, list[Block]]:
    """No title (the first section gives it), and the blocks.

    Raises:
        Rejected: `line_too_long`, `too_deep`, `damaged_rst`.
    """
    longest = max(map(len, text.split("\n")), default=0)
    if longest > MAX_LINE:
        raise Rejected(
            "line_too_long", f"a line of {longest:,} characters; the limit is {MAX_LINE:,}"
        )
    try:
        return "", list(_Walk().blocks(_tree(text)))
    except RecursionError as error:
        raise Rejected("too_deep", "its elements are nested too deep") from error


def _tree(text: str) -> Any:
    from docutils import ApplicationError  # type: ignore[import-untyped]
    from docutils.core import publish_doctree  # type: ignore[import-untyped]
    from docutils.parsers.rst import roles  # type: ignore[import-untyped]

    roles._roles.clear()  # those that the document before this one has defined
    try:
        return publish_doctree(text, settings_overrides=_SETTINGS)
    except (ApplicationError, *_DAMAGE) as error:
        raise damaged("rst", error) from error


class _Walk:
    """One pass over a document's tree; `_level` is that of the section it is in."""

    def __init__(self) -> None:
        self._level = 0
        self._heading = ""
        self._depth = 0
        self._resumed = False  # the next block goes on with this section after an inner one

    def blocks(self, node: Any, indent: str = "") -> Iterator[Block]:
        from docutils import nodes

        for child in node.children:
            match child:
                case nodes.system_message():
                    yield from self._unknown(child, indent)
                case nodes.section():
                    yield from self._section(child)
                case nodes.title() | nodes.subtitle() if isinstance(node, nodes.section):
                    self._heading = _inline(child)
                    yield Block(self._heading, self._level)
                case nodes.bullet_list() | nodes.enumerated_list():
                    for number, item in enumerate(child.children, child.get("start", 1)):
                        ordered = isinstance(child, nodes.enumerated_list)
                        yield from self._item(item, f"{number}." if ordered else "-", indent)
                case nodes.definition_list_item():
                    terms = [
                        _inline(each) for each in child.children if isinstance(each, nodes.term)
                    ]
                    yield self._said("; ".join(terms), indent)
                    yield from self.blocks(child, indent)
                case nodes.term() | nodes.classifier():
                    continue
                case nodes.field() | nodes.option_list_item():
                    name, body = child.children[0], child.children[1:]
                    said = " ".join(fold(_plain(each)) for each in body)
                    yield self._said(f"{_inline(name)}: {said}", indent)
                case nodes.table():
                    yield from self._table(child, indent)
                case nodes.literal_block() | nodes.doctest_block() | nodes.math_block():
                    yield self._said(child.astext(), "")
                case nodes.line_block():
                    yield self._said(_lines(child), "")
                case (
                    nodes.comment() | nodes.substitution_definition() | nodes.target()
                    | nodes.image() | nodes.pending() | nodes.raw() | nodes.decoration()
                    | nodes.label()
                ):  # fmt: skip
                    continue
                case nodes.TextElement():
                    yield self._said(_inline(child), indent)
                case nodes.Element():
                    yield from self.blocks(child, indent)

    def _said(self, text: str, indent: str) -> Block:
        if self._resumed and self._heading and text:
            self._resumed = False
            return Block(indent + text, self._level, self._heading)
        return Block(indent + text if text else "")

    def _section(self, node: Any) -> Iterator[Block]:
        outer = self._level, self._heading
        self._level, self._resumed = min(self._level + 1, 9), False
        yield from self.blocks(node)
        self._level, self._heading = outer

    def _item(self, item: Any, bullet: str, indent: str) -> Iterator[Block]:
        """The bullet stands before the first block, what follows is indented below it."""
        first = True
        for block in self.blocks(item, indent):
            if first and block.text.strip():
                yield Block(f"{indent}{bullet} {block.text.strip()}", block.level, block.heading)
                first = False
            else:
                yield Block(f"  {block.text}", block.level, block.heading)

    def _table(self, table: Any, indent: str) -> Iterator[Block]:
        from docutils import nodes

        for title in table.children:
            if isinstance(title, nodes.title):
                yield self._said(_inline(title), indent)
        for row in table.findall(nodes.row):
            cells = [fold(_plain(cell)) for cell in row.children]
            yield self._said(" | ".join(cell for cell in cells if cell), indent)

    def _unknown(self, message: Any, indent: str) -> Iterator[Block]:
        """What a directive holds that docutils does not know: its argument, then its body."""
        from docutils import nodes

        said = message.children[0].astext() if message.children else ""
        if not said.startswith("Unknown directive type"):
            return
        source = next(iter(message.findall(nodes.literal_block)), None)
        match = _DIRECTIVE.match("" if source is None else source.astext())
        if source is None or match is None:
            return
        name = match[1].lower().rpartition(":")[2]
        if name in _SILENT or match[1].lower() in _SILENT:
            return
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise Rejected("too_deep", f"directives are nested more than {_MAX_DEPTH} deep")
        argument, body = _parts(source.astext()[match.end() :])
        if name in _CODE:
            yield self._said("\n".join(part for part in (argument, body) if part), "")
        elif name in _DESCRIBING and argument:
            outer = self._level, self._heading
            self._level, self._heading = min(max(self._level, 1) + 1, 9), fold(argument)
            self._resumed = False
            yield Block(argument, self._level, self._heading)
            yield from self.blocks(_tree(body))
            self._level, self._heading = outer
            self._resumed = bool(self._heading)
        else:
            named = f"{name}: {fold(argument)}" if argument else ""
            yield self._said(_inline(_tree(named)) if named else "", indent)
            yield from self.blocks(_tree(body), indent)
        self._depth -= 1


def _parts(text: str) -> tuple[str, str]:
    """The argument of a directive, which may go on for lines, and its body; options go."""
    lines = text.split("\n")
    indents = [len(line) - len(line.lstrip()) for line in lines[1:] if line.strip()]
    dedented = [lines[0].strip(), *(line[min(indents, default=0) :] for line in lines[1:])]
    head = dedented.index("") if "" in dedented else len(dedented)
    # A directive whose first line is empty may begin with options, or with its body.
    start = 0 if dedented[0] else 1
    if not dedented[0]:
        head = 1
        while head < len(dedented) and _OPTION.match(dedented[head]):
            head += 1
    stripped = (line.strip() for line in dedented[start:head])
    argument = "\n".join(line for line in stripped if not _OPTION.match(line))
    return argument.strip(), "\n".join(dedented[head:]).strip("\n")


def _inline(node: Any) -> str:
    return fold(_plain(node))


def _plain(node: Any) -> str:
    """Text below a node; roles that docutils does not know keep what they hold."""
    from docutils import nodes

    parts: list[str] = []
    for child in node.children:
        if isinstance(child, nodes.Text):
            parts.append(child.astext())
        elif isinstance(child, nodes.problematic):
            parts.append(_role(child.astext()))
        elif isinstance(child, nodes.literal):
            parts.append(f"`{child.astext()}`")
        elif isinstance(child, nodes.image):
            parts.append(child.get("alt", ""))
        elif isinstance(child, nodes.system_message | nodes.footnote_reference | nodes.raw):
            continue
        else:
            inner = _plain(child)
            parts.append(inner if isinstance(child, nodes.Inline) else f"{inner} ")
    return "".join(parts)


def _role(source: str) -> str:
    """`:class:`~a.B`` to `a.B`, `:ref:`Title <target>`` to `Title`."""
    match = _ROLE.match(source)
    if match is None:
        return source
    titled = _TARGET.match(match[1])
    return titled[1] if titled else match[1].lstrip("~!")


def _lines(block: Any) -> str:
    from docutils import nodes

    return "\n".join(_inline(line) for line in block.findall(nodes.line))
