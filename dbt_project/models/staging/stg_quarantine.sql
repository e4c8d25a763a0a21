select
    uri,
    source,
    shard,
    stage,
    reason,
    detail,
    licence,
    access
from {{ source("lake", "quarantine") }}
order by uri, stage
