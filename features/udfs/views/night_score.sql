-- How good the nights were, 0 to 100, by hours asleep and by how much of the time in bed was slept; naps left out.
CREATE FEATURE VIEW night_quality
  ENTITY user_id
  WINDOWS (24 HOURS, 7 DAYS, 28 DAYS)
AS SELECT
  subject                                           AS user_id,
  avg(night_score(minutes_asleep, minutes_in_bed))  AS score,
  min(night_score(minutes_asleep, minutes_in_bed))  AS worst_score,
  last(night_score(minutes_asleep, minutes_in_bed)) AS latest_score
FROM sleep_session
WHERE main_sleep IS NOT FALSE
GROUP BY user_id;
