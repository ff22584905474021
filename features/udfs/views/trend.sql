-- Where the resting heart rate is heading: beats a minute, a day.
CREATE FEATURE VIEW heart_trend
  ENTITY user_id
  WINDOWS (7 DAYS, 28 DAYS)
AS SELECT
  subject                              AS user_id,
  trend(bpm, date_part('epoch', time)) AS resting_bpm_a_day,
  count(bpm)                           AS days
FROM heart_resting
GROUP BY user_id;
