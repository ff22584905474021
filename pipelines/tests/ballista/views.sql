-- What the shipped views lack: our aggregates, clocks, tables beside, every kind of window.
CREATE FEATURE VIEW ours ENTITY user_id WINDOWS (1 HOUR, 1 DAY, 7 DAYS, LIFETIME) AS SELECT
  subject AS user_id, count(*) AS n, last_n(project, 3) AS latest, first_n(minutes, 2) AS first, top_k(project, 2) AS often,
  approx_distinct(project) AS kinds, count(DISTINCT project) AS exact_kinds, approx_percentile_cont(minutes, 0.9) AS p90,
  percentile_cont(minutes, 0.5) AS median, avg(minutes) AS mean, stddev(minutes) AS spread, min(minutes) AS least,
  last(project) AS newest, first(minutes) FILTER (WHERE minutes > 20) AS first_long, array_agg(project, 4) AS list,
  sum(minutes) FILTER (WHERE project = 'p1') AS of_p1
FROM task_completed GROUP BY user_id;
CREATE FEATURE VIEW clocks ENTITY user_id WINDOWS (TODAY, THIS WEEK, THIS MONTH, 7 DAYS) AS SELECT
  subject AS user_id, count(*) AS n, streak(time) AS days, max(date_part('hour', local_time(time))) AS latest_hour,
  date_part('hour', local_time(as_of())) AS hour_now
FROM task_completed WHERE minutes > 5 GROUP BY user_id;
CREATE FEATURE VIEW ageing ENTITY user_id WINDOWS (1 DAY, 7 DAYS) AS SELECT
  subject AS user_id, as_of() - max(time) AS since, coalesce(as_of() - last(time), as_of() - as_of()) AS since_last
FROM task_completed GROUP BY user_id;
CREATE FEATURE VIEW beside ENTITY user_id WINDOWS (1 DAY, 28 DAYS) AS SELECT
  t.subject AS user_id, count(*) FILTER (WHERE c.place = 'home') AS at_home, last(c.place) AS place, count(*) AS n
FROM task_completed t LEFT JOIN context_changed c ON c.subject = t.subject WHERE t.minutes > 3 GROUP BY user_id;
CREATE FEATURE VIEW run ENTITY user_id WINDOWS (SESSION 30 MINUTES) AS SELECT subject AS user_id, count(*) AS n
FROM task_completed GROUP BY user_id;
