-- One row a source and day: how often answers rested on its documents, and its part of what they
-- took. A request is shared out evenly among its passages; one without any counts for "(none)", a
-- passage of a document that is no longer known for "(gone)". So the rows of a day add up.
with passages as (
    select
        trace,
        day,
        prompt_tokens,
        completion_tokens,
        energy_wh,
        cost,
        unnest(case when len(uris) > 0 then uris else [cast(null as varchar)] end) as uri,
        1.0 / greatest(coalesce(len(uris), 0), 1) as part
    from {{ ref("int_requests_seen") }}
),

by_source as (
    select
        passages.day,
        case
            when passages.uri is null then '(none)'
            else coalesce(documents.source, '(gone)')
        end as source,
        count(distinct passages.trace) as requests,
        count(passages.uri) as citations,
        cast(sum(passages.prompt_tokens * passages.part) as double) as prompt_tokens,
        cast(sum(passages.completion_tokens * passages.part) as double) as completion_tokens,
        cast(sum(passages.energy_wh * passages.part) as double) as energy_wh,
        cast(sum(passages.cost * passages.part) as double) as cost
    from passages
    left join {{ ref("documents") }} as documents on documents.uri = passages.uri
    group by all
)

select
    *,
    cost / nullif(sum(cost) over (partition by day), 0) as cost_share
from by_source
order by day, source
