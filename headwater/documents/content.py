"""What a document table holds as it stands, in the words of the stage that writes it."""

from collections.abc import Sequence

from headwater.documents import chunk, clean, raw
from headwater.documents.stage import StageStats, as_it_stands
from headwater.lake import Lake

_OUTPUTS = {output.table: output for output in (raw.OUTPUT, clean.OUTPUT, chunk.OUTPUT)}


def describe(lake: Lake, table: str, shards: Sequence[str]) -> StageStats:
    """Counts and digest of `raw_documents`, `clean_documents` or `document_shards`."""
    return as_it_stands(lake, _OUTPUTS[table], shards)
