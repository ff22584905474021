-- What goes on right now.
CREATE FEATURE VIEW going_on
  ENTITY user_id
  WINDOWS (SESSION 30 MINUTES, 1 DAY)
AS SELECT
  subject AS user_id, count(*) AS n, sum(minutes) AS minutes, min(time) AS began, last(project) AS project
FROM task_completed
WHERE minutes > 0
GROUP BY user_id;
