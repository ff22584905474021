-- Tasks finished lately, and how they spread over projects.
CREATE FEATURE VIEW task_activity
  ENTITY user_id
  WINDOWS (1 HOUR, 24 HOURS, 7 DAYS)
  WITH (freshness = '5 seconds')
AS SELECT
  subject                 AS user_id,
  count(*)                AS completed,
  sum(minutes)            AS minutes,
  count(DISTINCT project) AS projects,
  last(project)           AS latest_project
FROM task_completed
GROUP BY user_id;
