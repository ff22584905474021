-- How tasks spread over the hours of the person's day, in bits: 0 is always the same hour, 4.6 any hour alike.
CREATE FEATURE VIEW task_hours
  ENTITY user_id
  WINDOWS (7 DAYS, 28 DAYS)
AS SELECT
  subject                                      AS user_id,
  entropy(date_part('hour', local_time(time))) AS hour_spread,
  count(*)                                     AS completed
FROM task_completed
GROUP BY user_id;
