"""HTML to blocks: what a reader of the page sees as its content, in reading order.

Scripts, forms, navigation, a page's header and footer, requests for consent and what elements say of
themselves is hidden are left out; targets of links and images go. Style sheets are not read.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from headwater.documents.parsed import Block, Rejected, fold

_SKIPPED = {
    "script", "style", "noscript", "template", "head", "nav", "form", "button", "select",
    "textarea", "svg", "math", "iframe", "object", "embed", "canvas", "audio", "video", "dialog",
}  # fmt: skip
_BLOCKS = {
    "p", "div", "section", "article", "main", "header", "footer", "blockquote", "ul", "ol", "li",
    "dl", "dd", "figure", "figcaption", "table", "thead", "tbody", "tfoot", "caption", "body",
    "html", "address", "aside", "details", "summary", "fieldset", "hr", "br", "center", "pre", "tr", "dt",
}  # fmt: skip
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
#: Elements that repeat on each page of a site, by role and by the classes of common generators.
_CHROME_ROLES = {"navigation", "banner", "contentinfo", "search", "complementary"}
_CHROME_CLASSES = {"headerlink", "sphinxsidebar", "related", "toctree-wrapper"}
#: Within these `header` and `footer` belong to the section, elsewhere to the page (HTML-AAM, 3.5).
_SECTIONS = {"article", "aside", "main", "nav", "section", "blockquote", "details", "figure"}
#: Names that the usual programs give to their requests for consent.
_CONSENT = re.compile(
    r"\b(?:cookie[-_]?(?:banner|bar|consent|law|notice|popup)|(?:gdpr|consent)[-_]?(?:banner|popup)|"
    r"onetrust-|cybotcookiebot|didomi-|usercentrics-|cc-window)",
    re.IGNORECASE,
)
#: Farther than this from its place an element is beyond the window, in pixels.
_BEYOND_THE_WINDOW = re.compile(r"-\d{3,}(?:\.\d+)?(?:px)?")
_NO_SIZE = re.compile(r"0(?:\.0*)?(?:[a-z]+|%)?")
#: What docutils writes as `<aside>` and is content: footnotes, citations, abstracts. Others are not.
_ASIDES = {"footnote", "footnote-list", "citation", "citation-list", "topic"}


def blocks(text: str) -> tuple[str, Iterator[Block]]:
    """The page's title, or "", and its blocks.

    Raises:
        Rejected: `too_deep`.
    """
    from lxml import etree, html

    # Without huge_tree a text of more than 10 MB is dropped without a word.
    parser = html.HTMLParser(
        encoding="utf-8", remove_comments=True, remove_pis=True, huge_tree=True
    )
    data = text.encode("utf-8", "replace")
    try:
        root = html.document_fromstring(data, parser=parser) if data.strip() else None
    except (etree.ParserError, etree.XMLSyntaxError):
        root = None  # nothing but comments: no text
    # The parser goes on without what is beyond its limits: better no document than half of one.
    errors = {entry.type_name for entry in parser.error_log}
    if "ERR_NO_MEMORY" in errors:
        raise MemoryError("libxml2 ran out of memory")
    if "ERR_RESOURCE_LIMIT" in errors:
        raise Rejected("too_deep", "its elements are nested more than 2,000 deep")
    if root is None:
        return "", iter(())
    title = fold(root.findtext(".//title") or "")
    return title, iter(_Walk().run(_content(root)))


def _content(root: Any) -> Any:
    """The element that holds the page's content, where the page says so."""
    for path in (".//main", ".//*[@role='main']", ".//article"):
        found = root.findall(path)
        if len(found) == 1:
            return found[0]
    body = root.find("body")
    return root if body is None else body


@dataclass(slots=True)
class _Walk:
    """One pass over the tree, without recursion: pages may nest as deep as they like."""

    found: list[Block] = field(default_factory=list)
    words: list[str] = field(default_factory=list)  # of the block that is being read
    prefix: str = ""  # of the next block: a list's bullet
    headings: list[Block] = field(default_factory=list)  # open definition lists' outer heading
    section: Block = field(default_factory=lambda: Block(""))
    resumed: Block | None = None  # the next block goes on with this outer section
    preformatted: int = 0
    row: list[str] | None = None

    def run(self, root: Any) -> list[Block]:
        from lxml import etree

        skipped = None
        for event, element in etree.iterwalk(root, events=("start", "end")):
            if event == "start":
                if skipped is None and _is_skipped(element) and element is not root:
                    skipped = element
                if skipped is None:
                    self._open(element.tag)
                    self._text(element.text)
                continue
            if skipped is None:
                self._close(element.tag)
            elif element is skipped:
                skipped = None
            if skipped is None and element is not root:
                self._text(element.tail)
        self._flush()
        return self.found

    def _text(self, text: str | None) -> None:
        if text:
            self.words.append(text)

    def _open(self, tag: str) -> None:
        if tag in _BLOCKS or tag in _HEADINGS:
            if self.row is None:
                self._flush()
            else:
                self.words.append(" ")
        match tag:
            case "pre":
                self.preformatted += 1
            case "li":
                self.prefix = "- "
            case "tr":
                self.row = []
            case "dl":
                self.headings.append(self.section)

    def _close(self, tag: str) -> None:
        if tag in ("td", "th") and self.row is not None:
            self.row.append(fold("".join(self.words)))
            self.words.clear()
        elif tag == "tr" and self.row is not None:
            self.words = [" | ".join(cell for cell in self.row if cell)]
            self.row = None
            self._flush()
        elif tag in _HEADINGS:
            self._flush(_HEADINGS[tag])
        elif tag == "dt":
            outer = self.headings[-1] if self.headings else self.section
            self._flush(min(max(outer.level, 1) + 1, 9))
        elif tag == "dl" and self.headings:
            self._flush()
            outer = self.headings.pop()
            if outer.level and self.section != outer:
                self.section = self.resumed = outer
        elif self.row is None and tag in _BLOCKS:
            self._flush()
        if tag == "pre":
            self.preformatted -= 1

    def _flush(self, level: int = 0) -> None:
        """End the block that is being read."""
        text = "".join(self.words)
        self.words.clear()
        if not self.preformatted:
            text = fold(text)
        if not text.strip():
            return
        if level:
            self.section = Block(text, level)
            self.found.append(self.section)
            self.resumed, self.prefix = None, ""
            return
        text, self.prefix = self.prefix + text, ""
        if self.resumed is not None:
            self.found.append(Block(text, self.resumed.level, self.resumed.text))
            self.resumed = None
        else:
            self.found.append(Block(text))


def _is_skipped(element: Any) -> bool:
    attributes = element.attrib
    if element.tag in _SKIPPED or "hidden" in attributes:
        return True
    if attributes.get("role") in _CHROME_ROLES or attributes.get("aria-hidden") == "true":
        return True
    if "style" in attributes and _is_unseen(element, attributes["style"]):
        return True
    if element.tag in ("header", "footer") and _is_of_the_page(element):
        return True
    named, identity = attributes.get("class", ""), attributes.get("id", "")
    if _CONSENT.search(named) or _CONSENT.search(identity):
        return True
    classes = named.split()
    if element.tag == "aside" and _ASIDES.isdisjoint(classes):
        return True
    return not _CHROME_CLASSES.isdisjoint(classes)


def _is_unseen(element: Any, style: str) -> bool:
    """Whether an element's own style hides it.

    Not by `opacity`, which pages that fade in set on all they show, and by a size of 0 only where
    nothing is within that may have another.
    """
    said = dict[str, str]()
    for declaration in style.lower().split(";"):
        name, _, value = declaration.partition(":")
        said[name.strip()] = value.replace("!important", "").strip()
    if said.get("display") == "none" or said.get("visibility") in ("hidden", "collapse"):
        return True
    if _NO_SIZE.fullmatch(said.get("font-size", "")) and not len(element):
        return True
    return said.get("position") in ("absolute", "fixed") and any(
        _BEYOND_THE_WINDOW.fullmatch(said.get(side, ""))
        for side in ("left", "top", "right", "bottom")
    )


def _is_of_the_page(element: Any) -> bool:
    """Whether a header or footer stands on every page of the site; not one that has the page's title."""
    if any(above.tag in _SECTIONS for above in element.iterancestors()):
        return False
    return element.tag == "footer" or element.find(".//h1") is None
