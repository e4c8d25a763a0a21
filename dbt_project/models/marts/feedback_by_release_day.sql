-- One row a release and day of the answer: how many there were, and what people said of them.
-- The last word of each person on each trace counts.
with last_word as (
    select
        trace,
        user_name,
        arg_max(thumb, said_at) filter (where thumb is not null) as thumb,
        bool_or(corrected) as corrected,
        arg_max(preferred, said_at) filter (where preferred is not null) as preferred
    from {{ ref("stg_feedback") }}
    group by trace, user_name
),

by_trace as (
    select
        trace,
        count(*) filter (where thumb = 'up') as thumbs_up,
        count(*) filter (where thumb = 'down') as thumbs_down,
        count(*) filter (where corrected) as corrections,
        count(*) filter (where preferred = 'answer') as preferred,
        count(*) filter (where preferred = 'rival') as rival_preferred,
        count(*) filter (where preferred = 'equal') as equal
    from last_word
    group by trace
)

select
    requests.day,
    requests.release_id,
    count(*) filter (where requests.outcome = 'answered') as answers,
    count(by_trace.trace) as with_feedback,
    cast(coalesce(sum(by_trace.thumbs_up), 0) as bigint) as thumbs_up,
    cast(coalesce(sum(by_trace.thumbs_down), 0) as bigint) as thumbs_down,
    cast(coalesce(sum(by_trace.corrections), 0) as bigint) as corrections,
    cast(coalesce(sum(by_trace.preferred), 0) as bigint) as preferred,
    cast(coalesce(sum(by_trace.rival_preferred), 0) as bigint) as rival_preferred,
    cast(coalesce(sum(by_trace.equal), 0) as bigint) as equal
from {{ ref("int_requests_seen") }} as requests
left join by_trace on by_trace.trace = requests.trace
group by requests.day, requests.release_id
order by requests.day, requests.release_id
