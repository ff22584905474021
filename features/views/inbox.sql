-- Mail coming in: how much, how much of it matters, how many senders.
CREATE FEATURE VIEW inbox
  ENTITY user_id
  WINDOWS (1 HOUR, 24 HOURS, 7 DAYS)
AS SELECT
  subject                                     AS user_id,
  count(*)                                    AS received,
  count(*) FILTER (WHERE importance = 'high') AS important,
  count(*) FILTER (WHERE bulk)                AS bulk,
  count(*) FILTER (WHERE reply)               AS replies,
  count(DISTINCT sender_domain_hash)          AS senders
FROM mail_received
GROUP BY user_id;
