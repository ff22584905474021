-- Mood as reported, 1 to 5, 3 being the person's normal.
CREATE FEATURE VIEW mood_trend
  ENTITY user_id
  WINDOWS (24 HOURS, 7 DAYS, 28 DAYS)
AS SELECT
  subject                           AS user_id,
  count(*)                          AS reports,
  avg(mood)                         AS mood,
  min(mood)                         AS lowest_mood,
  last(mood)                        AS latest_mood,
  count(*) FILTER (WHERE mood <= 2) AS low_reports,
  count(*) FILTER (WHERE mood >= 4) AS high_reports
FROM mood_reported
WHERE mood BETWEEN 1 AND 5
GROUP BY user_id;
