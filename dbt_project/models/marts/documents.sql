-- Every document that is known, whatever became of it.
with chunks as (
    select
        uri,
        count(*) as chunks,
        cast(sum(tokens) as bigint) as tokens
    from {{ ref("stg_chunks") }}
    group by uri
),

-- A document may have been turned away by several stages; the first one says why.
quarantine as (
    select
        uri,
        arg_min(source, stage_order) as source,
        arg_min(stage, stage_order) as stage,
        arg_min(reason, stage_order) as reason,
        arg_min(detail, stage_order) as detail
    from (
        select *, case stage when 'raw' then 0 when 'clean' then 1 else 2 end as stage_order
        from {{ ref("stg_quarantine") }}
    ) as by_stage
    group by uri
),

known as (
    select uri, source from {{ ref("stg_raw_documents") }}
    union
    select uri, source from {{ ref("stg_clean_documents") }}
    union
    select uri, source from quarantine
)

select
    known.uri,
    known.source,
    case
        when duplicates.uri is not null then 'duplicate'
        when chunks.uri is not null then 'indexed'
        when clean.uri is not null then 'waiting'
        when quarantine.stage = 'filter' then 'filtered'
        when quarantine.uri is not null then 'quarantined'
        else 'waiting'
    end as status,
    clean.title,
    clean.language,
    raw.media_type,
    raw.licence,
    raw.access,
    raw.bytes,
    clean.characters,
    clean.headings,
    coalesce(chunks.chunks, 0) as chunks,
    coalesce(chunks.tokens, 0) as tokens,
    quarantine.reason as quarantine_reason,
    quarantine.detail as quarantine_detail,
    duplicates.survivor_uri as duplicate_of,
    clean.quality_flags,
    clean.personal_finds
from known
left join {{ ref("stg_raw_documents") }} as raw on raw.uri = known.uri
left join {{ ref("stg_clean_documents") }} as clean on clean.uri = known.uri
left join {{ ref("stg_duplicates") }} as duplicates on duplicates.uri = known.uri
left join quarantine on quarantine.uri = known.uri
left join chunks on chunks.uri = known.uri
order by known.uri
