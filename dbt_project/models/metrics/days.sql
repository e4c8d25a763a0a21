-- One row a day: the time spine that dbt's metrics ask for, so that a day without a row can be shown.
select cast(unnest(generate_series(date '2024-01-01', date '2039-12-31', interval 1 day)) as date) as day
order by day
