-- New tasks coming in: how many, how pressing, how much work.
CREATE FEATURE VIEW task_load
  ENTITY user_id
  WINDOWS (1 HOUR, 24 HOURS, 7 DAYS)
AS SELECT
  subject                                                   AS user_id,
  count(*)                                                  AS created,
  count(*) FILTER (WHERE priority IN ('high', 'urgent'))    AS important,
  count(*) FILTER (WHERE due <= time + INTERVAL '24 hours') AS due_within_day,
  count(*) FILTER (WHERE due IS NULL)                       AS without_due,
  sum(estimate_minutes)                                     AS estimate_minutes,
  count(DISTINCT project)                                   AS projects,
  last(project) FILTER (WHERE project IS NOT NULL)          AS latest_project
FROM task_created
GROUP BY user_id;
