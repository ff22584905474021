-- Training as reported. Load is minutes times perceived exertion (session RPE), summed over sessions.
CREATE FEATURE VIEW training_load
  ENTITY user_id
  WINDOWS (24 HOURS, 7 DAYS, 28 DAYS)
AS SELECT
  subject                                                                AS user_id,
  count(*)                                                               AS sessions,
  sum(minutes)                                                           AS minutes,
  sum(minutes * perceived_exertion)                                      AS load,
  max(perceived_exertion)                                                AS hardest,
  count(*) FILTER (WHERE perceived_exertion >= 8)                        AS hard_sessions,
  last(perceived_exertion) FILTER (WHERE perceived_exertion IS NOT NULL) AS latest_exertion
FROM training_session
GROUP BY user_id;
