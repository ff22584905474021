-- Resting heart rate, in beats a minute.
CREATE FEATURE VIEW heart
  ENTITY user_id
  WINDOWS (7 DAYS, 28 DAYS)
AS SELECT
  subject   AS user_id,
  count(*)  AS days,
  avg(bpm)  AS resting_bpm,
  min(bpm)  AS lowest_bpm,
  last(bpm) AS latest_bpm
FROM heart_resting
WHERE bpm > 0
GROUP BY user_id;
