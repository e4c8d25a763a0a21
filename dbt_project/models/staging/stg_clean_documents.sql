select
    uri,
    source,
    shard,
    title,
    language,
    length(text) as characters,
    len(headings) as headings,
    digest as text_digest,
    coalesce(len(quality_flags), 0) as quality_flags,
    -- Null where nothing was looked for, which is not the same as none found.
    cast(list_sum(list_transform(personal_data, lambda held: held.count)) as bigint) as personal_finds
from {{ source("lake", "clean_documents") }}
order by uri
