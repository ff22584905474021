CREATE FEATURE VIEW tasks ENTITY user_id WINDOWS (1 HOUR, 24 HOURS, 7 DAYS)
AS SELECT subject AS user_id, count(*) AS n, sum(minutes) AS minutes, avg(minutes) AS mean,
  min(minutes) AS least, max(minutes) AS most, count(DISTINCT project) AS projects
FROM task_completed GROUP BY user_id;
