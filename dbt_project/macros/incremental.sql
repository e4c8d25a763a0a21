{#
  Incremental models are kept by day in `kept.duckdb` (headwater/warehouse/kept.py). A day of the lake
  is replaced as a whole and its files never change, so a day whose files bear other names than those
  that were read is read again, whatever happened to it: rows that came late, rows that were taken
  away. That is exact, where a look-back or a watermark would be a guess.

  An incremental model reads one parent. Its rows, and of what they were made, are one transaction.
#}

{# Where an incremental model is to read again: days, as SQL strings; one that never was, where none. #}
{% macro changed_days() %}
  {%- set found = run_query(
    "select coalesce(now.day, kept.day) as day from (" ~ days_now() ~ ") as now full join ("
    ~ days_kept(this.identifier) ~ ") as kept on kept.day = now.day"
    ~ " where now.made_of is distinct from kept.made_of order by day"
  ).columns[0].values() -%}
  {%- set quoted = [] -%}
  {%- for day in found -%}{%- do quoted.append("'" ~ day ~ "'") -%}{%- endfor -%}
  {{ return(quoted | join(", ") or no_day()) }}
{% endmacro %}


{% macro no_day() %}{{ return("'0001-01-01'") }}{% endmacro %}


{# Before the rows: those of days that changed go, so that a day without rows has none. #}
{% macro forget_changed_days() %}
  {% if execute and is_incremental() %}
    {% set days = changed_days() %}
    {% set all = run_query("select count(*) from (" ~ days_now() ~ ")").columns[0].values()[0] %}
    {% set some = 0 if days == no_day() else days.split(", ") | length %}
    {{ log(this.identifier ~ ": " ~ some ~ " changed days, " ~ all ~ " days in all", info=true) }}
    delete from {{ this }} where day in ({{ days }})
  {% elif execute %}
    {{ log(this.identifier ~ ": full refresh", info=true) }}
  {% endif %}
{% endmacro %}


{#
  After the rows, in their transaction: the file that everyone reads, then what was read. A run that is
  killed in between has written the file and kept nothing, and does the same again.
#}
{% macro keep_days() %}
  {% if execute %}
    {% set file = parquet_file(this.identifier) %}
    {% set there = run_query("select count(*) from glob(" ~ file ~ ")").columns[0].values()[0] %}
    {% if not there or not is_incremental() or changed_days() != no_day() %}
    copy (select * from {{ this }} order by {{ config.get("meta")["order_by"] }}) to {{ file }}
    (format parquet, compression zstd, use_tmp_file true);
    {% endif %}
    delete from kept.main.kept_days where model = '{{ this.identifier }}';
    insert into kept.main.kept_days
    select '{{ this.identifier }}', day, made_of from ({{ days_now() }});
    delete from kept.main.kept_models where model = '{{ this.identifier }}';
    insert into kept.main.kept_models
    select '{{ this.identifier }}', '{{ code_of() }}'
    {# Of rows that came out of a parent's file nobody knows the days: the next run is full, too. #}
    {% if model.depends_on.nodes[0] in graph.nodes %}
    from kept.main.kept_models where model = '{{ graph.nodes[model.depends_on.nodes[0]].alias }}'
    {% endif %}
  {% endif %}
{% endmacro %}


{# What each day of the parent is made of now, and by which SQL this model makes its own of it. #}
{% macro days_now() -%}
  {%- set parent = model.depends_on.nodes[0] -%}
  {%- if parent in graph.sources -%}
    select day, md5(files || '{{ code_of() }}') as made_of from memory.main.lake_days
    where name = '{{ graph.sources[parent].name }}'
  {%- else -%}
    select day, md5(made_of || '{{ code_of() }}') as made_of from kept.main.kept_days
    where model = '{{ graph.nodes[parent].alias }}'
  {%- endif -%}
{%- endmacro %}


{% macro days_kept(name) -%}
  select day, made_of from kept.main.kept_days where model = '{{ name }}'
{%- endmacro %}


{# Digest of a model's SQL and of the columns that it promises. #}
{% macro code_of() -%}
  {%- set promised = [] -%}
  {%- for column in model.columns.values() -%}
    {%- do promised.append(column.name ~ " " ~ column.data_type) -%}
  {%- endfor -%}
  {{ return(local_md5(model.raw_code ~ promised | join(", "))) }}
{%- endmacro %}


{#
  dbt's own, and one reason more: rows that other SQL has made are made again. So an edited model
  needs nobody to think of `--full-refresh`.
#}
{% macro should_full_refresh() %}
  {% set asked = config.get("full_refresh") %}
  {% if asked is none %}{% set asked = flags.FULL_REFRESH %}{% endif %}
  {% if not asked and execute and config.get("materialized") == "incremental" %}
    {% set same = run_query(
      "select count(*) from kept.main.kept_models where model = '" ~ this.identifier
      ~ "' and code = '" ~ code_of() ~ "'"
    ).columns[0].values()[0] %}
    {% set asked = same == 0 %}
  {% endif %}
  {{ return(asked) }}
{% endmacro %}


{# Our words for a broken contract, for dbt's own materializations too. #}
{% macro get_assert_columns_equivalent(sql) %}
  {% do assert_contract(sql) %}
{% endmacro %}
