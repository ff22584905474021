-- When and how soundly a person sleeps: late nights (begun between 01:00 and 05:59 UTC), naps, time awake.
CREATE FEATURE VIEW sleep_rhythm
  ENTITY user_id
  WINDOWS (24 HOURS, 7 DAYS, 28 DAYS)
AS SELECT
  subject                                                                           AS user_id,
  count(*) FILTER (WHERE main_sleep AND extract(hour FROM "start") BETWEEN 1 AND 5) AS late_nights,
  count(*) FILTER (WHERE NOT main_sleep)                                            AS naps,
  max(minutes_asleep) FILTER (WHERE NOT main_sleep)                                 AS longest_nap_minutes,
  avg(minutes_awake) FILTER (WHERE main_sleep)                                      AS awake_minutes,
  avg(efficiency) FILTER (WHERE main_sleep AND efficiency > 0)                      AS efficiency
FROM sleep_session
GROUP BY user_id;
