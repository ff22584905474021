-- Reports of what hurts.
CREATE FEATURE VIEW injuries
  ENTITY user_id
  WINDOWS (7 DAYS, 28 DAYS)
AS SELECT
  subject                             AS user_id,
  count(*)                            AS reports,
  count(*) FILTER (WHERE "count" > 0) AS hurting_reports,
  last("count")                       AS latest_injuries
FROM injury_report
GROUP BY user_id;
