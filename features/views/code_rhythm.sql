-- Pushes to repositories: how many, how large, how late (22:00 to 04:59 UTC), and at weekends.
CREATE FEATURE VIEW code_rhythm
  ENTITY user_id
  WINDOWS (1 HOUR, 24 HOURS, 7 DAYS)
AS SELECT
  subject                                                                              AS user_id,
  count(*)                                                                             AS pushes,
  sum(commits)                                                                         AS commits,
  sum(files)                                                                           AS files,
  max(files)                                                                           AS largest_files,
  count(DISTINCT repo)                                                                 AS repos,
  count(*) FILTER (WHERE extract(hour FROM time) >= 22 OR extract(hour FROM time) < 5) AS late_pushes,
  count(*) FILTER (WHERE extract(dow FROM time) IN (0, 6))                             AS weekend_pushes,
  last(repo)                                                                           AS latest_repo
FROM code_pushed
GROUP BY user_id;
