-- Every chunk with the document it is a span of, and how often its text occurs.
select
    chunk.chunk_id,
    chunk.uri,
    chunk.source,
    document.title,
    chunk.heading,
    chunk.ordinal,
    chunk.first_byte,
    chunk.end_byte,
    chunk.characters,
    chunk.tokens,
    chunk.embed_digest,
    chunk.licence,
    chunk.access,
    count(*) over (partition by chunk.embed_digest) as occurrences
from {{ ref("stg_chunks") }} as chunk
left join {{ ref("stg_clean_documents") }} as document on document.uri = chunk.uri
order by chunk.uri, chunk.ordinal
