-- Exercise as a watch records it.
CREATE FEATURE VIEW exercise
  ENTITY user_id
  WINDOWS (24 HOURS, 7 DAYS, 28 DAYS)
AS SELECT
  subject                                   AS user_id,
  count(*)                                  AS sessions,
  sum(minutes)                              AS minutes,
  max(minutes)                              AS longest_minutes,
  sum(distance_km)                          AS distance_km,
  count(DISTINCT activity)                  AS activities,
  count(*) FILTER (WHERE activity = 'Walk') AS walks,
  last(activity)                            AS latest_activity
FROM exercise_session
GROUP BY user_id;
