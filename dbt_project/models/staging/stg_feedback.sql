-- What was said in the same words again, across midnight too, is one row: the later one.
select
    id as feedback_id,
    trace,
    cast(day as date) as day,
    "time" as said_at,
    "release" as release_id,
    "user" as user_name,
    thumb,
    correction is not null as corrected,
    len(tags) as tags,
    preferred
from {{ source("lake", "feedback") }}
qualify row_number() over (partition by id order by "time" desc) = 1
order by said_at, feedback_id
