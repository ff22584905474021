-- How far the nights' sleep fell short of eight hours. Longer nights do not pay for shorter ones.
CREATE FEATURE VIEW sleep_debt
  ENTITY user_id
  WINDOWS (24 HOURS, 7 DAYS, 28 DAYS)
AS SELECT
  subject                                                                  AS user_id,
  sum(CASE WHEN minutes_asleep < 480 THEN 480 - minutes_asleep ELSE 0 END) AS deficit_minutes,
  count(*)                                                                 AS nights,
  count(*) FILTER (WHERE minutes_asleep < 360)                             AS short_nights,
  avg(minutes_asleep)                                                      AS night_minutes,
  last(minutes_asleep)                                                     AS last_night_minutes
FROM sleep_session
WHERE main_sleep AND minutes_asleep IS NOT NULL
GROUP BY user_id;
