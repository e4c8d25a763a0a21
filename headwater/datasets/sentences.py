"""Running prose out of plain-text documentation: whole sentences, without the marks of markup.

Knows text alone; what a sentence is good for is judged by others.
"""

import re

_PARAGRAPH = re.compile(r"\n\s*\n|\n(?=\s*(?:[-*•+]|\d+[.)])\s)")
_BULLET = re.compile(r"^\s*(?:[-*•+]|\d+[.)])\s+")
_SENTENCE = re.compile(
    r"(?<!\be\.g\.)(?<!\bi\.e\.)(?<!\bvs\.)(?<!\bcf\.)"
    r"(?:(?<=[.!?])|(?<=[.!?][\"')\]]))\s+(?=[A-Z\"'`(*“_])"
)
_CODE = re.compile(r"^\s*(>>>|\.\.\.|#|\$|[|+])|::=|[{};]\s*$|^\s*\w+\s*=\s|^\s{8,}\S")
#: A name with arguments on a line of its own.
SIGNATURE = re.compile(
    r"^\s{0,3}(?:(?:class|async|static)\s)?((?:[a-z_]\w*\.)*[A-Za-z_]\w*)\(([^()\n]*)\)"
    r"\s*(?:->\s*\S+)?\s*$"
)
#: Marks of plain-text documentation around names and words, which an answer does without.
_EMPHASIS = re.compile(r"(?<![\w*])\*{1,2}([A-Za-z_][\w -]*)\*{1,2}(?![\w*])")
_QUOTED = re.compile(
    r"(?<!\w)(?:\"{1,2}([^\"\n]{1,30})\"{1,2}|``?([^`\n]{1,40})``?)(?:(?=s\b)|(?!\w))"
)
_BROKEN = re.compile(r"(?<=\w-)\s*\n\s*(?=\w)")
_ASIDE = re.compile(r"\s(?:\[\d+\]|\([Ss]ee [^()]*\))")
_SEE = re.compile(r",? (?:as )?described in (?:section )?[^,.;()]+(?=[.,;])")

_NOTES = ("See ", "Changed in ", "New in ", "Deprecated ", "Example", "Note:", "Added in ")
#: A chunk may open in mid-sentence: a name in lower case begins one only if its verb follows.
_BEGINS = re.compile(
    r"[A-Z\"'`(\u201c]|[\w.]+(?:\(\))? (?:is|are|can|may|must|should|will|has|have)\b"
)


def plain(text: str) -> str:
    """Text without the marks of emphasis and code, cross references and repeated whitespace."""
    text = " ".join(text.split())
    text = _QUOTED.sub(lambda match: match[1] or match[2], _EMPHASIS.sub(r"\1", text))
    return _SEE.sub("", _ASIDE.sub("", text))


def paragraphs(text: str) -> list[list[str]]:
    """Running prose as sentences by paragraph; code, grammar, titles and fragments are left out.

    What is left out of a paragraph stands as an empty string, so that neighbours are neighbours.
    """
    found = []
    for block in _PARAGRAPH.split(text):
        lines = _BROKEN.sub("", _BULLET.sub("", block)).splitlines()
        while lines and (SIGNATURE.match(lines[0]) or _is_term_line(lines)):
            lines = lines[1:]
        if not lines or any(_CODE.search(line) for line in lines):
            continue
        sentences = [
            plain(sentence) for sentence in _SENTENCE.split(" ".join(" ".join(lines).split()))
        ]
        if len(sentences) > 1 or sentences[0].endswith((".", "!", ":", ".)")):
            found.append([sentence if _is_whole(sentence) else "" for sentence in sentences])
    return found


def _is_whole(sentence: str) -> bool:
    ends = sentence.endswith((".", "!", ".)", '."', ".”"))
    begins = _BEGINS.match(sentence)
    return bool(ends and begins and len(sentence.split()) > 2 and not sentence.startswith(_NOTES))


def _is_term_line(lines: list[str]) -> bool:
    """A short first line over an indented body: the term of a definition list, or a title."""
    if len(lines) < 2 or lines[0].rstrip().endswith((".", ",", ":", ";")):
        return False
    indents = [len(line) - len(line.lstrip()) for line in lines[:2]]
    return indents[1] > indents[0] and len(lines[0].split()) <= 6
