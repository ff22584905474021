-- What was listened to, and how varied it was.
CREATE FEATURE VIEW listening
  ENTITY user_id
  WINDOWS (1 HOUR, 24 HOURS, 7 DAYS)
AS SELECT
  subject                                      AS user_id,
  count(*)                                     AS tracks,
  sum(minutes)                                 AS minutes,
  count(DISTINCT artist)                       AS artists,
  count(DISTINCT genre)                        AS genres,
  count(*) FILTER (WHERE skipped)              AS skipped,
  last(genre) FILTER (WHERE genre IS NOT NULL) AS latest_genre
FROM listen_played
GROUP BY user_id;
