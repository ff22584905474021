CREATE FEATURE VIEW busy ENTITY user_id WINDOWS (2 HOURS, 1 WEEK)
AS SELECT subject AS user_id,
  count(*) FILTER (WHERE minutes >= 30) AS long,
  coalesce(sum(minutes), 0) AS total,
  sum(minutes) / count(*) AS per_task,
  count(*) FILTER (WHERE extract(hour FROM time) >= 22) AS night,
  bool_or(minutes > 50) AS marathon
FROM task_completed
WHERE project IS DISTINCT FROM 'chores'
GROUP BY subject;
