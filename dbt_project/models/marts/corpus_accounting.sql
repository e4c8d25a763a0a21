-- One row a source: where its documents went. Each fate is counted from its own table, so that a
-- document that is nowhere, or in two places, shows as a sum that does not hold.
with fates as (
    select uri, source, 'in' as fate from {{ ref("stg_raw_documents") }}
    union
    -- What could not be read has no row among the raw documents.
    select uri, source, 'in' as fate from {{ ref("stg_quarantine") }} where stage = 'raw'
    union
    select uri, source, 'indexed' as fate from {{ ref("stg_chunks") }}
    union
    select uri, source, 'duplicate' as fate from {{ ref("stg_duplicates") }}
    union
    select
        uri,
        source,
        case when stage = 'filter' then 'filtered' else 'quarantined' end as fate
    from {{ ref("stg_quarantine") }}
)

select
    source,
    count(*) filter (where fate = 'in') as documents,
    count(*) filter (where fate = 'indexed') as indexed,
    count(*) filter (where fate = 'duplicate') as duplicates,
    count(*) filter (where fate = 'quarantined') as quarantined,
    count(*) filter (where fate = 'filtered') as filtered
from fates
group by source
order by source
