-- What a person makes of each category of tips: how often liked, how often refused.
CREATE FEATURE VIEW taste
  ENTITY user_id
  WINDOWS (28 DAYS)
AS SELECT
  subject                                                                                 AS user_id,
  count(*) FILTER (WHERE category = 'calendar' AND reaction IN ('accepted', 'done'))      AS calendar_liked,
  count(*) FILTER (WHERE category = 'calendar' AND reaction IN ('dismissed', 'muted'))    AS calendar_refused,
  count(*) FILTER (WHERE category = 'code' AND reaction IN ('accepted', 'done'))          AS code_liked,
  count(*) FILTER (WHERE category = 'code' AND reaction IN ('dismissed', 'muted'))        AS code_refused,
  count(*) FILTER (WHERE category = 'focus' AND reaction IN ('accepted', 'done'))         AS focus_liked,
  count(*) FILTER (WHERE category = 'focus' AND reaction IN ('dismissed', 'muted'))       AS focus_refused,
  count(*) FILTER (WHERE category = 'habits' AND reaction IN ('accepted', 'done'))        AS habits_liked,
  count(*) FILTER (WHERE category = 'habits' AND reaction IN ('dismissed', 'muted'))      AS habits_refused,
  count(*) FILTER (WHERE category = 'learning' AND reaction IN ('accepted', 'done'))      AS learning_liked,
  count(*) FILTER (WHERE category = 'learning' AND reaction IN ('dismissed', 'muted'))    AS learning_refused,
  count(*) FILTER (WHERE category = 'mail' AND reaction IN ('accepted', 'done'))          AS mail_liked,
  count(*) FILTER (WHERE category = 'mail' AND reaction IN ('dismissed', 'muted'))        AS mail_refused,
  count(*) FILTER (WHERE category = 'mood' AND reaction IN ('accepted', 'done'))          AS mood_liked,
  count(*) FILTER (WHERE category = 'mood' AND reaction IN ('dismissed', 'muted'))        AS mood_refused,
  count(*) FILTER (WHERE category = 'movement' AND reaction IN ('accepted', 'done'))      AS movement_liked,
  count(*) FILTER (WHERE category = 'movement' AND reaction IN ('dismissed', 'muted'))    AS movement_refused,
  count(*) FILTER (WHERE category = 'music' AND reaction IN ('accepted', 'done'))         AS music_liked,
  count(*) FILTER (WHERE category = 'music' AND reaction IN ('dismissed', 'muted'))       AS music_refused,
  count(*) FILTER (WHERE category = 'nourishment' AND reaction IN ('accepted', 'done'))   AS nourishment_liked,
  count(*) FILTER (WHERE category = 'nourishment' AND reaction IN ('dismissed', 'muted')) AS nourishment_refused,
  count(*) FILTER (WHERE category = 'rest' AND reaction IN ('accepted', 'done'))          AS rest_liked,
  count(*) FILTER (WHERE category = 'rest' AND reaction IN ('dismissed', 'muted'))        AS rest_refused,
  count(*) FILTER (WHERE category = 'sleep' AND reaction IN ('accepted', 'done'))         AS sleep_liked,
  count(*) FILTER (WHERE category = 'sleep' AND reaction IN ('dismissed', 'muted'))       AS sleep_refused,
  count(*) FILTER (WHERE category = 'social' AND reaction IN ('accepted', 'done'))        AS social_liked,
  count(*) FILTER (WHERE category = 'social' AND reaction IN ('dismissed', 'muted'))      AS social_refused,
  count(*) FILTER (WHERE category = 'tasks' AND reaction IN ('accepted', 'done'))         AS tasks_liked,
  count(*) FILTER (WHERE category = 'tasks' AND reaction IN ('dismissed', 'muted'))       AS tasks_refused
FROM reactions
GROUP BY user_id;
