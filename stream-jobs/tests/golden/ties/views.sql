CREATE FEATURE VIEW latest ENTITY user_id WINDOWS (1 HOUR, 1 DAY)
AS SELECT subject AS user_id, first(project) AS opened, last(project) AS closed,
  last(minutes) FILTER (WHERE minutes IS NOT NULL) AS minutes, max(time) AS at
FROM task_completed GROUP BY user_id;
