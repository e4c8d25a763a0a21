select
    trace,
    cast(day as date) as day,
    "time" as asked_at,
    "release" as release_id,
    coalesce(arm, 'champion') as arm,
    status,
    streamed,
    refused,
    length(question) as question_characters,
    length(answer) as answer_characters,
    uris,
    len(uris) as passages,
    list_max(scores) as top_score,
    prompt_tokens,
    completion_tokens,
    retrieve_ms,
    generate_ms,
    total_ms,
    energy_wh,
    cost
from {{ source("lake", "requests") }}
{% if is_incremental() %}
where day in ({{ changed_days() }})
{% endif %}
