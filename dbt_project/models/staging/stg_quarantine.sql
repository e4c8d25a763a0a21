select
    uri,
    source,
    shard,
    stage,
    reason,
    detail
from {{ source("lake", "quarantine") }}
order by uri, stage
