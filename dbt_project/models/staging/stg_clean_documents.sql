select
    uri,
    source,
    shard,
    title,
    language,
    length(text) as characters,
    len(headings) as headings,
    digest as text_digest
from {{ source("lake", "clean_documents") }}
order by uri
