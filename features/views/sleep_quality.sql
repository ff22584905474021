-- The tracker's score of the nights.
CREATE FEATURE VIEW sleep_quality
  ENTITY user_id
  WINDOWS (24 HOURS, 7 DAYS, 28 DAYS)
AS SELECT
  subject           AS user_id,
  count(*)          AS nights,
  avg(score)        AS score,
  min(score)        AS lowest_score,
  last(score)       AS latest_score,
  avg(deep_minutes) AS deep_minutes,
  avg(restlessness) AS restlessness
FROM sleep_score
GROUP BY user_id;
