-- One row a release and day: how much it was asked, how it answered, and how fast. What a shadow
-- answered, nobody saw.
select
    day,
    release_id,
    count(*) as requests,
    count(*) filter (where status = 'ok' and not refused) as answered,
    count(*) filter (where refused) as refused,
    count(*) filter (where status <> 'ok' and not refused) as unfinished,
    count(*) filter (where streamed) as streamed,
    avg(top_score) as top_score_mean,
    avg(passages) as passages_mean,
    avg(question_characters) as question_characters_mean,
    avg(answer_characters) as answer_characters_mean,
    cast(sum(prompt_tokens) as bigint) as prompt_tokens,
    cast(sum(completion_tokens) as bigint) as completion_tokens,
    sum(energy_wh) as energy_wh,
    sum(cost) as cost,
    quantile_cont(total_ms, 0.5) as total_ms_median,
    quantile_cont(total_ms, 0.95) as total_ms_p95
from {{ ref("stg_requests") }}
where arm <> 'shadow'
group by day, release_id
order by day, release_id
