-- One row for each heuristic of quality that an accepted document fails.
select
    uri,
    source,
    unnest(quality_flags) as flag
from {{ source("lake", "clean_documents") }}
order by uri, flag
