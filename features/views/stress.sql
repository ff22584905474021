-- Stress as reported: 1 is very stressed, 3 the person's normal, 5 very relaxed.
CREATE FEATURE VIEW stress
  ENTITY user_id
  WINDOWS (24 HOURS, 7 DAYS, 28 DAYS)
AS SELECT
  subject                             AS user_id,
  count(*)                            AS reports,
  avg(stress)                         AS calm,
  min(stress)                         AS lowest_calm,
  last(stress)                        AS latest_calm,
  count(*) FILTER (WHERE stress <= 2) AS stressed_reports
FROM mood_reported
WHERE stress BETWEEN 1 AND 5
GROUP BY user_id;
