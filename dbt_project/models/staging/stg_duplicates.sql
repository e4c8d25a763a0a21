select
    uri,
    source,
    cluster as cluster_uri,
    survivor as survivor_uri,
    similarity,
    kind
from {{ source("lake", "duplicates") }}
order by uri
