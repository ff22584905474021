-- Active and sedentary minutes of whole days; days on which the watch was not worn are left out.
CREATE FEATURE VIEW daily_activity
  ENTITY user_id
  WINDOWS (24 HOURS, 7 DAYS, 28 DAYS)
AS SELECT
  subject                                              AS user_id,
  count(*)                                             AS days,
  sum(moderately_active_minutes + very_active_minutes) AS active_minutes,
  sum(very_active_minutes)                             AS very_active_minutes,
  avg(sedentary_minutes)                               AS sedentary_minutes,
  count(*) FILTER (WHERE sedentary_minutes >= 720)     AS sedentary_days
FROM activity_daily
WHERE sedentary_minutes < 1440
GROUP BY user_id;
