-- One row a release and day: how much it was asked, how it answered, and how fast.
select
    day,
    release_id,
    count(*) as requests,
    count(*) filter (where outcome = 'answered') as answered,
    count(*) filter (where outcome = 'refused') as refused,
    count(*) filter (where outcome = 'unfinished') as unfinished,
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
from {{ ref("int_requests_seen") }}
{% if is_incremental() %}
where day in ({{ changed_days() }})
{% endif %}
group by day, release_id
