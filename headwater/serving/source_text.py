"""The text around a citation, from the cleaned documents.

Knows the lake and byte offsets. The lake may be ahead of the index that is served: whoever shows
the text compares the span with what the answer cited.
"""

from typing import Any

from headwater.lake import Lake
from headwater.records import shard_of
from headwater.settings import Settings

#: Bytes shown at each side of the span.
AROUND = 1_500
_COLUMNS = ["uri", "title", "text"]


def source_text(settings: Settings, uri: str, start: int, end: int) -> dict[str, Any] | None:
    """A span of a document and what stands around it, or None for a document we do not have.

    Args:
        start: first byte of the span in the cleaned text (UTF-8); beyond the text is its end.
        end: byte after the span.

    Returns:
        `before`, `span` and `after` as text, the offsets of the span as they were met, and whether
        the document goes on at either side.
    """
    where = {"shard": [shard_of(uri, settings.shards)], "uri": [uri]}
    rows = Lake(settings.lake).read("clean_documents", columns=_COLUMNS, where=where).to_pylist()
    if not rows:
        return None
    text = rows[0]["text"].encode()
    start, end = _boundary(text, start), _boundary(text, end)
    first, last = _boundary(text, max(start - AROUND, 0)), _boundary(text, end + AROUND)
    return {
        "uri": uri,
        "title": rows[0]["title"],
        "start": start,
        "end": end,
        "before": text[first:start].decode(),
        "span": text[start:end].decode(),
        "after": text[end:last].decode(),
        "more_before": first > 0,
        "more_after": last < len(text),
    }


def _boundary(text: bytes, offset: int) -> int:
    """The offset, or the start of the character that it falls within; at most the text's end."""
    offset = min(offset, len(text))
    while 0 < offset < len(text) and text[offset] & 0xC0 == 0x80:
        offset -= 1
    return offset
