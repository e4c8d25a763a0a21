"""Digests of a table's rows, a column at a time, and the name of a set of them.

Knows Arrow columns and how `headwater.records.digest_of` writes JSON; no table of ours. Gives what
`digest_of` gives, in a fifth of its time, and holds 64 bytes a row.
"""

import json
from collections.abc import Sequence
from hashlib import sha256
from json.encoder import encode_basestring
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

#: Hexadecimal digests, 64 bytes each.
Digests = npt.NDArray[np.bytes_]
NONE: Digests = np.empty(0, "S64")
#: Rows, and digests, that are written as JSON at once.
_BLOCK = 16_384
#: As in `digest_of`.
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode


def row_digests(rows: pa.Table, columns: Sequence[str], where_given: Sequence[str] = ()) -> Digests:
    """For each row `digest_of(*values)` of some columns.

    Args:
        where_given: columns that follow as `[name, value]` in rows where they hold something.
    """
    found = []
    for start in range(0, len(rows), _BLOCK):
        block = rows.slice(start, _BLOCK)
        lines = list(zip(*(_json(block[column]) for column in columns), strict=True))
        given = [_given(column, block[column]) for column in where_given]
        for line, *more in zip(lines, *given, strict=True):
            text = "[" + ",".join(line) + "".join(more) + "]"
            found.append(sha256(text.encode("utf-8", "surrogatepass")).hexdigest())
    return np.frombuffer("".join(found).encode("ascii"), "S64") if found else NONE


def name_of(version: str, digests: Digests) -> str:
    """`digest_of(version, sorted(digests))`, without a string of them all."""
    ordered = np.sort(digests)
    name = sha256(b"[" + encode_basestring(version).encode() + b",[")
    for start in range(0, len(ordered), _BLOCK):
        block: list[bytes] = ordered[start : start + _BLOCK].tolist()
        name.update((b',"' if start else b'"') + b'","'.join(block) + b'"')
    name.update(b"]]")
    return name.hexdigest()


def _json(column: pa.ChunkedArray) -> list[str]:
    """Each value as JSON."""
    if column.null_count == len(column):
        return ["null"] * len(column)
    values: Any = column.to_pylist()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return ["null" if value is None else encode_basestring(value) for value in values]
    return [_encode(value) for value in values]


def _given(name: str, column: pa.ChunkedArray) -> list[str]:
    """What a row's JSON goes on with for a column; nothing where it holds nothing."""
    if column.null_count == len(column):
        return [""] * len(column)
    values = column.to_pylist()
    return ["," + _encode([name, value]) if value else "" for value in values]
