-- Tasks put off, and the one put off most often.
CREATE FEATURE VIEW task_snoozes
  ENTITY user_id
  WINDOWS (1 HOUR, 24 HOURS, 7 DAYS)
AS SELECT
  subject                                                AS user_id,
  count(*)                                               AS snoozed,
  count(DISTINCT task)                                   AS tasks,
  count(*) FILTER (WHERE priority IN ('high', 'urgent')) AS important,
  max(times)                                             AS most_times,
  last(project) FILTER (WHERE project IS NOT NULL)       AS latest_project
FROM task_snoozed
GROUP BY user_id;
