-- Mood and stress with the newest reports counting most: half as much for every three days of age.
CREATE FEATURE VIEW mood_level
  ENTITY user_id
  WINDOWS (7 DAYS, 28 DAYS)
AS SELECT
  subject                                                                    AS user_id,
  ewma(mood, date_part('epoch', time), 259200.0) FILTER (WHERE mood > 0)     AS mood,
  ewma(stress, date_part('epoch', time), 259200.0) FILTER (WHERE stress > 0) AS calm
FROM mood_reported
GROUP BY user_id;
