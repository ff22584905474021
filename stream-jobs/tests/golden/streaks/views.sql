-- Days in a row, on the person's calendar.
CREATE FEATURE VIEW rhythm
  ENTITY user_id
  WINDOWS (30 DAYS, LIFETIME)
  WITH (lateness = '90 days')
AS SELECT
  subject           AS user_id,
  streak(time)      AS days_in_a_row,
  last_n(project, 2) AS latest,
  top_k(project, 1) AS favourite
FROM task_completed
GROUP BY user_id;

-- Days in a row on the calendar of UTC.
CREATE FEATURE VIEW rhythm_utc
  ENTITY user_id
  WINDOWS (30 DAYS)
  WITH (lateness = '90 days')
AS SELECT subject AS user_id, streak(CAST(time AS DATE)) AS days_in_a_row FROM task_completed GROUP BY user_id;
