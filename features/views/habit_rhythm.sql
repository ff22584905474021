-- Habits kept and missed, and the longest run of days among them.
CREATE FEATURE VIEW habit_rhythm
  ENTITY user_id
  WINDOWS (24 HOURS, 7 DAYS, 28 DAYS)
AS SELECT
  subject                                                   AS user_id,
  count(*) FILTER (WHERE done IS NULL OR done)              AS kept,
  count(*) FILTER (WHERE NOT done)                          AS missed,
  count(DISTINCT habit) FILTER (WHERE done IS NULL OR done) AS habits,
  max(streak_days)                                          AS best_streak,
  last(streak_days) FILTER (WHERE streak_days IS NOT NULL)  AS latest_streak,
  last(habit) FILTER (WHERE done IS NULL OR done)           AS latest_habit
FROM habit_checked
GROUP BY user_id;
