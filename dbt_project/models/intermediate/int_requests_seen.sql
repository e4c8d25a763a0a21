-- Requests whose answer somebody could see, and how they ended. What a shadow answered, nobody saw.
select
    trace,
    day,
    release_id,
    arm,
    case
        when refused then 'refused'
        when status = 'ok' then 'answered'
        else 'unfinished'
    end as outcome,
    streamed,
    question_characters,
    answer_characters,
    uris,
    passages,
    top_score,
    prompt_tokens,
    completion_tokens,
    total_ms,
    energy_wh,
    cost
from {{ ref("stg_requests") }}
where arm <> 'shadow'
{% if is_incremental() %}
and day in ({{ changed_days() }})
{% endif %}
