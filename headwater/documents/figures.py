"""What takes a document's whole text to tell, by shard: its length, unreadable characters, words.

Knows `clean_documents`. Data files never change, so the figures of a shard hold for as long as its
files are the same; where they are others, those of a document for as long as its digest is. Texts are
read a shard at a time. What is kept is a cache: without it every text is read again, and the figures
are the same.
"""

from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headwater.files import write_atomic
from headwater.lake import Lake
from headwater.records import digest_of
from headwater.snapshot import Snapshot

FIGURES_VERSION = "figures/2"
#: Columns of `clean_documents` that figures are of.
MEASURED = ("uri", "text", "headings")
#: What tells a document's figures: the digest is of its text and headings.
NAMED = ("uri", "digest")
_KEY, _VERSION = b"headwater_key", b"headwater_version"


def figures_of(table: pa.Table, *, words: bool) -> pa.Table:
    """Figures of documents (`MEASURED`), a row each: integers, beside the URI.

    Args:
        words: whether these are counted, which is slower than all else.
    """
    text = table["text"]
    found = {
        "uri": table["uri"],
        "bytes": pc.binary_length(text).cast(pa.int64()),
        "characters": pc.utf8_length(text).cast(pa.int64()),
        "unreadable": pc.count_substring(text, "\ufffd").cast(pa.int64()),
        "headings": pc.list_value_length(table["headings"]).cast(pa.int64()),
    }
    if words:
        found["words"] = pc.count_substring_regex(text, r"\S+").cast(pa.int64())
    return pa.table(found)


class Figures:
    """The figures of one version of `clean_documents`, measured where its documents are others.

    Args:
        words: whether these are counted.
    """

    def __init__(self, lake: Lake, documents: Snapshot, *, words: bool = False) -> None:
        self._documents, self._words = documents, words
        self._folder = lake.root / ".figures"
        kept = {self._name(shard) for shard in documents.files}
        for path in self._folder.glob("*.arrow"):
            if path.name not in kept:  # of a shard that there was
                path.unlink(missing_ok=True)

    def of(self, shard: str, documents: pa.Table | None = None) -> pa.Table:
        """A shard's figures, in the order in which its documents are read. By any thread.

        Args:
            documents: `NAMED` of the shard, where they have been read already.
        """
        if shard not in self._documents.files:
            return figures_of(self._documents.partition(shard, MEASURED), words=self._words)
        kept = self._kept(shard)
        if kept is not None and _metadata(kept, _KEY) == self._key(shard):
            if documents is None or kept["uri"].equals(documents["uri"]):
                return kept
            kept = None  # not what it says it is
        if documents is None:
            documents = self._documents.partition(shard, NAMED)
        found = self._measured(shard, documents.select(NAMED).combine_chunks(), kept)
        self._keep(shard, found)
        return found

    def _measured(self, shard: str, documents: pa.Table, kept: pa.Table | None) -> pa.Table:
        """Figures of a shard's documents; those with a digest that they had are as they were kept."""
        at = pa.nulls(len(documents), pa.int32())
        if kept is not None:
            at = pc.index_in(documents["uri"], value_set=kept["uri"].combine_chunks())
            same = pc.equal(documents["digest"], kept["digest"].take(at)).fill_null(False)
            at = pc.if_else(same, at, pa.scalar(None, pa.int32()))
        if at.null_count:
            rows = self._documents.partition(shard, MEASURED).filter(pc.is_null(at))
            new = figures_of(rows, words=self._words)
            new = new.append_column("digest", documents["digest"].filter(pc.is_null(at)))
            if kept is None:
                return new
        else:
            assert kept is not None  # there is nothing else that it could be of
            new = kept.slice(0, 0)
        both = pa.concat_tables([kept.select(new.column_names).take(at.drop_null()), new])
        known = at.is_valid().to_numpy()
        order = np.argsort(np.concatenate([np.flatnonzero(known), np.flatnonzero(~known)]))
        return both.take(pa.array(order))

    def _kept(self, shard: str) -> pa.Table | None:
        """What is kept of a shard, also of other data files than it has now."""
        try:
            data = (self._folder / self._name(shard)).read_bytes()
        except FileNotFoundError:
            return None
        try:
            with pa.ipc.open_file(data) as file:
                table = file.read_all()
        except (pa.ArrowInvalid, OSError):  # torn, when the power went
            return None
        is_it = _metadata(table, _VERSION) == FIGURES_VERSION.encode()
        return table if is_it and ("words" in table.column_names or not self._words) else None

    def _keep(self, shard: str, found: pa.Table) -> None:
        names = {_KEY: self._key(shard), _VERSION: FIGURES_VERSION.encode()}
        table = found.replace_schema_metadata(names)
        sink = pa.BufferOutputStream()
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        with pa.ipc.new_file(sink, table.schema, options=options) as writer:
            writer.write_table(table)
        path = self._folder / self._name(shard)
        write_atomic(path, sink.getvalue().to_pybytes(), durable=False)

    def _key(self, shard: str) -> bytes:
        return digest_of(FIGURES_VERSION, self._documents.files[shard]).encode()

    @staticmethod
    def _name(shard: str) -> str:
        return f"{quote(shard, safe='')}.arrow"


def _metadata(table: pa.Table, name: bytes) -> bytes | None:
    return (table.schema.metadata or {}).get(name)
