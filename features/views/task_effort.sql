-- How demanding the finished tasks were, and whether they were done in time.
CREATE FEATURE VIEW task_effort
  ENTITY user_id
  WINDOWS (24 HOURS, 7 DAYS, 28 DAYS)
AS SELECT
  subject                                                AS user_id,
  count(*) FILTER (WHERE late)                           AS late,
  count(*) FILTER (WHERE priority IN ('high', 'urgent')) AS important,
  count(*) FILTER (WHERE minutes >= 60)                  AS long_ones,
  count(*) FILTER (WHERE minutes <= 5)                   AS quick_ones,
  avg(minutes)                                           AS average_minutes,
  max(minutes)                                           AS longest_minutes
FROM task_completed
GROUP BY user_id;
