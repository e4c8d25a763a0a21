-- One row a source: what came in, what became of it, what there is to retrieve.
select
    source,
    count(*) as documents,
    count(*) filter (where status = 'indexed') as indexed,
    count(*) filter (where status = 'duplicate') as duplicates,
    count(*) filter (where status = 'quarantined') as quarantined,
    count(*) filter (where status = 'filtered') as filtered,
    count(*) filter (where status = 'waiting') as waiting,
    cast(coalesce(sum(bytes), 0) as bigint) as bytes,
    cast(coalesce(sum(characters), 0) as bigint) as characters,
    cast(sum(chunks) as bigint) as chunks,
    cast(sum(tokens) as bigint) as tokens,
    count(distinct language) as languages
from {{ ref("documents") }}
group by source
order by source
