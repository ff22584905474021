-- Lists, sketches and streaks; the days of a streak are those of the person's clock.
CREATE FEATURE VIEW lately
  ENTITY user_id
  WINDOWS (1 DAY, LIFETIME)
AS SELECT
  subject                AS user_id,
  last_n(project, 2)     AS latest,
  first_n(project, 2)    AS opening,
  array_agg(minutes, 3)  AS lengths,
  top_k(project, 2)      AS favourites,
  approx_distinct(project) AS projects,
  approx_median(minutes) AS typical,
  streak(time)           AS days
FROM task_completed
GROUP BY user_id;
