-- Tasks by where the person was.
CREATE FEATURE VIEW by_place
  ENTITY user_id
  WINDOWS (1 HOUR, 1 DAY)
AS SELECT
  t.subject                                                AS user_id,
  count(*)                                                 AS n,
  count(*) FILTER (WHERE c.place = 'home')                 AS at_home,
  sum(CASE WHEN c.place = 'work' THEN t.minutes ELSE 0 END) AS work_minutes,
  count(DISTINCT c.place)                                  AS places,
  last(c.place)                                            AS latest_place
FROM task_completed t
LEFT JOIN context_changed c ON c.subject = t.subject
GROUP BY user_id;

-- The condition itself depends on the place.
CREATE FEATURE VIEW elsewhere
  ENTITY user_id
  WINDOWS (1 DAY)
AS SELECT subject AS user_id, count(*) AS n, sum(minutes) AS minutes
FROM task_completed
LEFT JOIN context_changed USING (subject)
WHERE (place IS DISTINCT FROM 'home') AND minutes < 100
GROUP BY user_id;
