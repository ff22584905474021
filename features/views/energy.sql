-- How fresh, how ready and how free of soreness a person feels; higher is better. Freshness and soreness
-- run from 1 to 5, readiness from 0 to 10.
CREATE FEATURE VIEW energy
  ENTITY user_id
  WINDOWS (24 HOURS, 7 DAYS, 28 DAYS)
AS SELECT
  subject                                              AS user_id,
  avg(fatigue) FILTER (WHERE fatigue > 0)              AS freshness,
  last(fatigue) FILTER (WHERE fatigue > 0)             AS latest_freshness,
  avg(readiness) FILTER (WHERE readiness > 0)          AS readiness,
  last(readiness) FILTER (WHERE readiness > 0)         AS latest_readiness,
  last(soreness) FILTER (WHERE soreness > 0)           AS latest_soreness,
  count(*) FILTER (WHERE fatigue BETWEEN 1 AND 2)      AS tired_reports,
  last(sleep_quality) FILTER (WHERE sleep_quality > 0) AS latest_sleep_quality
FROM mood_reported
GROUP BY user_id;
