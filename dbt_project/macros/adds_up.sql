{# A test of a model: in every row the parts add up to the whole. #}
{% test adds_up(model, whole, parts) %}
select *
from {{ model }}
where {{ whole }} is distinct from {{ parts | join(" + ") }}
{% endtest %}
