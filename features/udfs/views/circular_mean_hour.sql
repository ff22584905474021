-- When a person lies down and gets up, as mean hours of that person's day; naps left out.
CREATE FEATURE VIEW bedtime
  ENTITY user_id
  WINDOWS (7 DAYS, 28 DAYS)
AS SELECT
  subject                                                                        AS user_id,
  circular_mean_hour(date_part('epoch', local_time("start")) % 86400.0 / 3600.0) AS lies_down_hour,
  circular_mean_hour(date_part('epoch', local_time("end")) % 86400.0 / 3600.0)   AS gets_up_hour,
  count(*)                                                                       AS nights
FROM sleep_session
WHERE main_sleep IS NOT FALSE
GROUP BY user_id;
