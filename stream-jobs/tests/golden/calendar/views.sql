-- Days, weeks and months as the person lives them.
CREATE FEATURE VIEW days
  ENTITY user_id
  WINDOWS (TODAY, THIS WEEK, THIS MONTH, LIFETIME, 2 HOURS)
AS SELECT
  subject                                                      AS user_id,
  count(*)                                                     AS n,
  sum(minutes)                                                 AS minutes,
  count(*) FILTER (WHERE extract(hour FROM local_time(time)) < 9) AS early,
  max(local_time(time))                                        AS latest_on_the_clock,
  as_of() - max(time)                                          AS since_ms
FROM task_completed
GROUP BY user_id;

-- The lower edge falls to the full ten minutes.
CREATE FEATURE VIEW coarse
  ENTITY user_id
  WINDOWS (1 HOUR)
  WITH (resolution = '10 minutes')
AS SELECT subject AS user_id, count(*) AS n FROM task_completed GROUP BY user_id;
