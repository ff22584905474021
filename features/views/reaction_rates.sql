-- How a person reacted to tips.
CREATE FEATURE VIEW reaction_rates
  ENTITY user_id
  WINDOWS (24 HOURS, 7 DAYS, 28 DAYS)
AS SELECT
  subject                                                                  AS user_id,
  count(*)                                                                 AS reactions,
  count(*) FILTER (WHERE reaction = 'accepted')                            AS accepted,
  count(*) FILTER (WHERE reaction = 'dismissed')                           AS dismissed,
  count(*) FILTER (WHERE reaction = 'snoozed')                             AS snoozed,
  count(*) FILTER (WHERE reaction = 'done')                                AS done,
  count(*) FILTER (WHERE reaction = 'muted')                               AS muted,
  count(DISTINCT category) FILTER (WHERE reaction IN ('accepted', 'done')) AS liked_categories,
  last(category) FILTER (WHERE reaction IN ('accepted', 'done'))           AS latest_liked_category,
  last(reaction)                                                           AS latest_reaction
FROM reactions
GROUP BY user_id;
