-- What was booked into the calendar, by the time of booking.
CREATE FEATURE VIEW calendar_density
  ENTITY user_id
  WINDOWS (1 HOUR, 24 HOURS, 7 DAYS)
AS SELECT
  subject                                                       AS user_id,
  count(*)                                                      AS booked,
  sum(minutes)                                                  AS minutes,
  count(*) FILTER (WHERE kind = 'meeting')                      AS meetings,
  sum(minutes) FILTER (WHERE kind = 'meeting')                  AS meeting_minutes,
  sum(minutes) FILTER (WHERE kind = 'focus')                    AS focus_minutes,
  count(*) FILTER (WHERE attendees >= 6)                        AS large_meetings,
  count(*) FILTER (WHERE minutes >= 60)                         AS long_entries,
  count(*) FILTER (WHERE "start" <= time + INTERVAL '24 hours') AS starting_within_day
FROM calendar_event
WHERE status IS NULL OR status = 'booked'
GROUP BY user_id;
