-- Tips shown: how many, how varied, and the latest one.
CREATE FEATURE VIEW tip_fatigue
  ENTITY user_id
  WINDOWS (1 HOUR, 24 HOURS, 7 DAYS)
AS SELECT
  subject                  AS user_id,
  count(*)                 AS shown,
  count(DISTINCT tip)      AS tips,
  count(DISTINCT category) AS categories,
  last(tip)                AS latest_tip,
  last(category)           AS latest_category,
  max(time)                AS latest_time
FROM impressions
GROUP BY user_id;
