-- One row a source: are its chunks of a size that retrieval and prompt were made for?
select
    source,
    count(*) as chunks,
    count(distinct embed_digest) as distinct_texts,
    1.0 - count(distinct embed_digest) / cast(count(*) as double) as repeated_share,
    min(tokens) as tokens_min,
    quantile_cont(tokens, 0.5) as tokens_median,
    quantile_cont(tokens, 0.95) as tokens_p95,
    max(tokens) as tokens_max,
    avg(tokens) as tokens_mean
from {{ ref("chunks") }}
group by source
order by source
