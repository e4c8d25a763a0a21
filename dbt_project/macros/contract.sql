{#
  The check of a contract: the columns that a model's SQL gives are those that its YAML promises, as
  dbt's own check has it. Where they differ, this one also names the marts below and the models whose
  SQL names what is missing: a renamed column is found where it is renamed, with all that it breaks.
#}
{% macro assert_contract(sql) %}
  {%- set given = types_by_name(get_column_schema_from_query(sql)) -%}
  {%- set promised = types_by_name(
    get_column_schema_from_query(get_empty_schema_sql(model["columns"]))
  ) -%}
  {%- set readers = readers_of(model["unique_id"]) -%}
  {%- set differences = [] -%}
  {%- for name in promised if name not in given -%}
    {%- set naming = [] -%}
    {%- for reader in readers if modules.re.search("\\b" ~ name ~ "\\b", reader.raw_code) -%}
      {%- do naming.append(reader.name) -%}
    {%- endfor -%}
    {%- do differences.append(
      "`" ~ name ~ "` is missing" ~ (" (named in " ~ naming | sort | join(", ") ~ ")" if naming else "")
    ) -%}
  {%- endfor -%}
  {%- for name in given if name not in promised -%}
    {%- do differences.append("`" ~ name ~ "` is not promised") -%}
  {%- endfor -%}
  {%- for name, type in promised.items() if name in given and given[name] != type -%}
    {%- do differences.append("`" ~ name ~ "` is " ~ given[name] ~ " instead of " ~ type) -%}
  {%- endfor -%}
  {%- if differences -%}
    {%- set marts = [] -%}
    {%- for reader in readers if "marts" in reader.fqn -%}
      {%- do marts.append(reader.name) -%}
    {%- endfor -%}
    {{ exceptions.raise_compiler_error(
      "The contract of " ~ model["name"] ~ " does not hold: " ~ differences | join("; ") ~ ". "
      ~ ("Marts that it breaks: " ~ marts | sort | join(", ") ~ ". " if marts else "No mart reads it. ")
      ~ "Mend the SQL, or change the contract in " ~ model["patch_path"].split("//")[-1]
      ~ " and every reader with it."
    ) }}
  {%- endif -%}
{% endmacro %}


{% macro types_by_name(columns) %}
  {%- set types = {} -%}
  {%- for column in columns -%}
    {%- do types.update({column.name: column.dtype}) -%}
  {%- endfor -%}
  {{ return(types) }}
{% endmacro %}


{# The models that read one, directly or through others, nearest first. #}
{% macro readers_of(unique_id) %}
  {%- set found = [] -%}
  {%- set ahead = [unique_id] -%}
  {%- for _ in graph.nodes -%}
    {%- set current = ahead.pop(0) if ahead else none -%}
    {%- for node in graph.nodes.values()
          if node.resource_type == "model" and current in node.depends_on.nodes
          and node not in found -%}
      {%- do found.append(node) -%}
      {%- do ahead.append(node.unique_id) -%}
    {%- endfor -%}
  {%- endfor -%}
  {{ return(found) }}
{% endmacro %}
