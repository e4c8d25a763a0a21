{#
  Materialization `parquet`: one model, one Parquet file in $HEADWATER_HOME/warehouse, and a view on
  it for the rest of the run.

  dbt-duckdb's own `external` writes a row of NULLs where a model has no rows and hides it only in
  its view; here everyone reads the files themselves, so an empty model must be an empty file.
  DuckDB writes beside and renames: a reader sees the old file or the new one.
#}
{% materialization parquet, adapter="duckdb" %}
  {%- set target = this.incorporate(type="view") -%}

  {{ run_hooks(pre_hooks) }}
  {% if config.get("contract").enforced %}
    {%- do assert_contract(sql) -%}
  {% endif %}

  {% call statement("main") -%}
    copy (
      {{ sql }}
    ) to {{ parquet_file(this.identifier) }} (format parquet, compression zstd, use_tmp_file true)
  {%- endcall %}
  {% do view_on_parquet(target) %}

  {{ run_hooks(post_hooks) }}
  {% do persist_docs(target, model) %}
  {{ adapter.commit() }}
  {{ return({"relations": [target]}) }}
{% endmaterialization %}


{# The file of a model, as a SQL string. #}
{% macro parquet_file(name) -%}
  {%- set file = headwater_home() ~ "/warehouse/" ~ name ~ ".parquet" -%}
  '{{ file | replace("'", "''") }}'
{%- endmacro %}


{% macro headwater_home() -%}
  {{ env_var("HEADWATER_HOME", ".headwater") }}
{%- endmacro %}


{% macro view_on_parquet(relation) %}
  {% call statement("view_on_parquet") -%}
    create or replace view {{ relation }} as
    select * from read_parquet({{ parquet_file(relation.identifier) }})
  {%- endcall %}
{% endmacro %}


{#
  Before a run: a view for each model that this run reads and does not build, so that one model, or
  one test, can be run alone although the database is empty at the start. Where a file is yet to be
  made, the nodes that need it fail by themselves.

  An incremental model has its table; where that was lost, its file stands in until its next run,
  which is a full refresh. A transaction writes to one database, so those come by themselves.
#}
{% macro register_unselected_upstream() %}
  {% if execute %}
    {% set upstream = {"parquet": [], "incremental": []} %}
    {% for id in selected_resources if id in graph.nodes %}
      {% for parent in [id] + graph.nodes[id].depends_on.nodes %}
        {% set node = graph.nodes.get(parent) %}
        {% if node and node.config.materialized in upstream and parent not in selected_resources
              and node not in upstream[node.config.materialized] %}
          {% do upstream[node.config.materialized].append(node) %}
        {% endif %}
      {% endfor %}
    {% endfor %}
    {% for materialized, nodes in upstream.items() %}
      {% set made = [] %}
      {% for node in nodes %}
        {% set relation = api.Relation.create(
          database=node.database, schema=node.schema, identifier=node.alias, type="view"
        ) %}
        {% set found = run_query("select count(*) from glob(" ~ parquet_file(node.alias) ~ ")") %}
        {% set there = load_relation(relation) if materialized == "incremental" else none %}
        {% if found.columns[0].values()[0] and not (there and there.is_table) %}
          {% do adapter.create_schema(relation) %}
          {% do view_on_parquet(relation) %}
          {% do made.append(node) %}
        {% endif %}
      {% endfor %}
      {% if made %}{% do adapter.commit() %}{% endif %}
    {% endfor %}
  {% endif %}
{% endmacro %}
