"""Rows of `document_shards` as a suite is asked of them, beside the documents that they are of.

Knows both tables, a shard at a time, and which documents are left out as duplicates; not what is asked.
"""

from collections import Counter
from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc

from headwater.documents.asked import Part
from headwater.documents.changes import changed
from headwater.documents.duplicates import left_out_by_shard
from headwater.documents.figures import NAMED, Figures
from headwater.documents.rest import Before
from headwater.documents.suites import Suite, load_suite
from headwater.lake import Lake

#: Columns of `document_shards` that are asked of, those of them that are compared with what they were
#: (the digest is of the text too), and those that compare a chunk with others.
OF_CHUNKS = (
    "id", "uri", "source", "ordinal", "start", "end", "text", "tokens", "embed_digest", "digest",
)  # fmt: skip
AS_STORED = tuple(each for each in OF_CHUNKS if each != "text")
COMPARED = ("document_exists", "gap_before")
COVERAGE = ("uri", "uncovered_bytes")


class Chunks:
    """The chunks of a lake, and their documents."""

    def __init__(self, lake: Lake, suite: Suite) -> None:
        self.stored = lake.snapshot("document_shards")
        self.documents = lake.snapshot("clean_documents")
        self.shards = sorted({*self.stored.files, *self.documents.files})
        self.left_out = left_out_by_shard(lake, self.shards)
        # Headwater's own expectation of a text is that there is any: its first character tells.
        shipped = len(load_suite("chunks").entries)
        self.whole_texts = len(suite.entries) > shipped and suite.names("text")
        self._figures = Figures(lake, self.documents)

    def rows(self, shard: str, columns: Collection[str]) -> pa.Table:
        """The chunks of a shard, by document and place in it."""
        stored = self.stored.partition(shard, self._stored_for(columns))
        documents = self._counted(shard, self.documents.partition(shard, ["uri"]))
        return self._asked(stored, documents, columns)

    def coverage(self, shard: str) -> pa.Table:
        """For each document that is no duplicate the bytes of its text that no chunk covers."""
        spans = self.stored.partition(shard, ["uri", "start", "end"])
        return _uncovered(self._counted(shard, self._figures.of(shard)), spans)

    def parts(
        self, shard: str, columns: Collection[str], before: Before | None
    ) -> tuple[Part, Part]:
        """The chunks of a shard and the coverage of its documents, as they are asked of.

        Args:
            columns: of chunks.
            before: what the shard was when it held, where that is remembered; then those documents are
                asked of that have other chunks than then, or are others, or came to be or ceased to be
                left out.
        """
        found = None if before is None else self._since(shard, before, columns)
        if found is not None:
            return found
        rows, coverage = self.rows(shard, columns), self.coverage(shard)
        return Part(rows=rows, every=rows), Part(rows=coverage, every=coverage)

    def _since(
        self, shard: str, before: Before, columns: Collection[str]
    ) -> tuple[Part, Part] | None:
        """None where files of then are gone, so that it cannot be told what changed."""
        chunk_files, document_files = before.files
        chunks = self.stored.partition(shard, AS_STORED)
        documents = self.documents.partition(shard, NAMED)
        chunks_then = self.stored.earlier(shard, chunk_files, AS_STORED, last=True)
        documents_then = self.documents.earlier(shard, document_files, NAMED)
        if chunks_then is None or documents_then is None:
            return None
        of_chunks = changed(chunks_then, chunks, "id")
        of_documents = changed(documents_then, documents, "uri")
        left_out = self.left_out.get(shard, set()) ^ set(before.of_shard or ())
        uris = pa.concat_arrays(
            [of_chunks, of_documents, pa.array(sorted(left_out), pa.string())]
        ).unique()

        counted = self._counted(shard, documents)
        mine = pc.is_in(chunks["uri"], value_set=uris)
        rows = chunks.filter(mine)
        if "text" in columns:
            texts = pa.chunked_array([], pa.string())
            if rows.num_rows:
                texts = self.stored.partition(shard, ["text"])["text"].filter(mine)
            rows = rows.append_column("text", texts)
        asked = self._asked(rows, counted, columns)

        covered = counted["uri"].filter(pc.is_in(counted["uri"], value_set=uris)).combine_chunks()
        figures = self._figures.of(shard if len(covered) else "", documents)
        figures = figures.filter(pc.is_in(figures["uri"], value_set=covered))
        coverage = _uncovered(figures, rows)
        return Part(rows=asked, every=chunks), Part(rows=coverage, every=counted)

    def _stored_for(self, columns: Collection[str]) -> list[str]:
        """The columns that are read for some that are asked of."""
        wanted = {*columns, "uri", "ordinal"}
        if "gap_before" in wanted:
            wanted |= {"start", "end"}
        return [each for each in OF_CHUNKS if each in wanted]

    def _asked(self, stored: pa.Table, documents: pa.Table, columns: Collection[str]) -> pa.Table:
        """Rows as they are asked of: in order, and with the columns that compare them.

        Args:
            documents: those of the shard that are to have chunks.
        """
        table = stored.sort_by([("uri", "ascending"), ("ordinal", "ascending")])
        if "text" in columns and not self.whole_texts:
            begun = pc.utf8_slice_codeunits(table["text"], 0, 1)
            table = table.set_column(table.column_names.index("text"), "text", begun)
        if "document_exists" in columns:
            known = documents["uri"].combine_chunks()
            table = table.append_column("document_exists", pc.is_in(table["uri"], known))
        if "gap_before" in columns:
            table = table.append_column("gap_before", _gaps(table))
        return table.select([each for each in (*OF_CHUNKS, *COMPARED) if each in columns])

    def _counted(self, shard: str, documents: pa.Table) -> pa.Table:
        """Those of a shard's documents that are not left out."""
        left_out = pa.array(sorted(self.left_out.get(shard, ())), pa.string())
        return documents.filter(pc.invert(pc.is_in(documents["uri"], left_out)))


def _uncovered(figures: pa.Table, spans: pa.Table) -> pa.Table:
    """For each document (`bytes` of its text) those that no span covers."""
    covered: Counter[str] = Counter()
    for row in spans.select(["uri", "start", "end"]).to_pylist():
        covered[row["uri"]] += row["end"] - row["start"]
    lengths, uris = figures["bytes"].to_pylist(), figures["uri"].to_pylist()
    missing = [length - covered[uri] for uri, length in zip(uris, lengths, strict=True)]
    return pa.table({"uri": figures["uri"], "uncovered_bytes": pa.array(missing, pa.int64())})


def _gaps(chunks: pa.Table) -> pa.Array:
    """Bytes between each chunk and the one before it in its document (rows sorted)."""
    gaps, uri, end = [], None, 0
    for row in chunks.select(["uri", "start", "end"]).to_pylist():
        gaps.append(row["start"] - (end if row["uri"] == uri else 0))
        uri, end = row["uri"], row["end"]
    return pa.array(gaps, pa.int64())
