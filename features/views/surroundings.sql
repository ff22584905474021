-- Where a person is and what they are in the middle of, and how often that changed.
CREATE FEATURE VIEW surroundings
  ENTITY user_id
  WINDOWS (1 HOUR, 24 HOURS, 7 DAYS)
AS SELECT
  subject                                                    AS user_id,
  count(*)                                                   AS changes,
  count(*) FILTER (WHERE focusing)                           AS focus_periods,
  count(DISTINCT place)                                      AS places,
  last(place) FILTER (WHERE place IS NOT NULL)               AS place,
  last(place = 'home') FILTER (WHERE place IS NOT NULL)      AS at_home,
  last(place = 'work') FILTER (WHERE place IS NOT NULL)      AS at_work,
  last(activity) FILTER (WHERE activity IS NOT NULL)         AS activity,
  last(focusing) FILTER (WHERE focusing IS NOT NULL)         AS focusing,
  last(weather) FILTER (WHERE weather IS NOT NULL)           AS weather,
  last(weather = 'clear') FILTER (WHERE weather IS NOT NULL) AS clear_sky
FROM context_changed
GROUP BY user_id;
