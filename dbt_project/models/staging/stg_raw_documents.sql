select
    uri,
    source,
    shard,
    media_type,
    licence,
    access,
    size as bytes,
    digest as content_digest
from {{ source("lake", "raw_documents") }}
order by uri
