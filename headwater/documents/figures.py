"""What takes a document's whole text to tell, by shard: its length, unreadable characters, words.

Knows `clean_documents`. Data files never change, so the figures of a shard hold for as long as its
files are the same; texts are read a shard at a time. What is kept is a cache: without it every text is
read again, and the figures are the same.
"""

from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc

from headwater.files import write_atomic
from headwater.lake import Lake, Snapshot
from headwater.records import digest_of

FIGURES_VERSION = "figures/1"
#: Columns of `clean_documents` that figures are of.
MEASURED = ("uri", "text", "headings")
_KEY = b"headwater_key"


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
    """The figures of one version of `clean_documents`, measured where its files are others.

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

    def of(self, shard: str, uris: pa.ChunkedArray | None = None) -> pa.Table:
        """A shard's figures, in the order in which its documents are read.

        Args:
            uris: these documents, where they have been read already.
        """
        if shard not in self._documents.files:
            return figures_of(self._documents.partition(shard, MEASURED), words=self._words)
        found = self._kept(shard)
        if found is None or (uris is not None and not found["uri"].equals(uris)):
            found = figures_of(self._documents.partition(shard, MEASURED), words=self._words)
            self._keep(shard, found)
        return found

    def _kept(self, shard: str) -> pa.Table | None:
        try:
            with pa.memory_map(str(self._folder / self._name(shard))) as file:
                table = pa.ipc.open_file(file).read_all()
        except (FileNotFoundError, pa.ArrowInvalid):
            return None
        is_it = (table.schema.metadata or {}).get(_KEY) == self._key(shard)
        return table if is_it and ("words" in table.column_names or not self._words) else None

    def _keep(self, shard: str, found: pa.Table) -> None:
        table = found.replace_schema_metadata({_KEY: self._key(shard)})
        sink = pa.BufferOutputStream()
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        with pa.ipc.new_file(sink, table.schema, options=options) as writer:
            writer.write_table(table)
        write_atomic(self._folder / self._name(shard), sink.getvalue().to_pybytes())

    def _key(self, shard: str) -> bytes:
        return digest_of(FIGURES_VERSION, self._documents.files[shard]).encode()

    @staticmethod
    def _name(shard: str) -> str:
        return f"{quote(shard, safe='')}.arrow"
