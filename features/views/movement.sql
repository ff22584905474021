-- Steps. Hours without a signal are hours without data, not hours without steps.
CREATE FEATURE VIEW movement
  ENTITY user_id
  WINDOWS (1 HOUR, 24 HOURS, 7 DAYS)
AS SELECT
  subject                             AS user_id,
  sum(steps)                          AS steps,
  count(*)                            AS counts,
  count(*) FILTER (WHERE steps < 100) AS still_counts,
  max(steps)                          AS most_steps,
  last(steps)                         AS latest_steps
FROM steps_counted
WHERE steps IS NOT NULL
GROUP BY user_id;
