-- What the daily form says of meals, fluid and alcohol.
CREATE FEATURE VIEW nourishment
  ENTITY user_id
  WINDOWS (24 HOURS, 7 DAYS, 28 DAYS)
AS SELECT
  subject                                                            AS user_id,
  count(*)                                                           AS reports,
  avg(glasses_of_fluid)                                              AS glasses,
  last(glasses_of_fluid) FILTER (WHERE glasses_of_fluid IS NOT NULL) AS latest_glasses,
  avg(meal_count)                                                    AS meals,
  count(*) FILTER (WHERE meal_count < 3)                             AS days_with_few_meals,
  count(*) FILTER (WHERE alcohol)                                    AS days_with_alcohol
FROM habit_report
GROUP BY user_id;
