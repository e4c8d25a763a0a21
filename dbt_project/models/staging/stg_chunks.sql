select
    id as chunk_id,
    uri,
    source,
    ordinal,
    heading,
    "start" as first_byte,
    "end" as end_byte,
    length(text) as characters,
    tokens,
    embed_digest,
    licence,
    access
from {{ source("lake", "document_shards") }}
order by uri, ordinal
