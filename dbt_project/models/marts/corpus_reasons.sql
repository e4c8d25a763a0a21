-- One row a source, fate and reason: why documents are not indexed, and what is doubtful of those
-- that are.
with reasons as (
    select source, 'duplicate' as fate, kind as reason, uri from {{ ref("stg_duplicates") }}
    union all
    select
        source,
        case when stage = 'filter' then 'filtered' else 'quarantined' end as fate,
        reason,
        uri
    from {{ ref("stg_quarantine") }}
    union all
    select source, 'flagged' as fate, flag as reason, uri from {{ ref("stg_quality_flags") }}
)

select
    source,
    fate,
    reason,
    count(distinct uri) as documents
from reasons
group by source, fate, reason
order by source, fate, reason
