//! What Redis does in one atomic step, all of it on the keys of one partition.
//!
//! Every write carries a number that only grows. One that comes late, because it lay in a connection that was given
//! up, finds a higher number and changes nothing; one that finds a lower number than was answered before tells
//! that Redis has lost writes.

/// Claims a partition. Keys: owner, store, applied. Arguments: token, lease in milliseconds, format of the rows and
/// name of the state they come from, highest number used. Answers `{1, number, applied or ""}` or `{-2, holder, milliseconds left}`.
pub(super) const CLAIM: &str = r#"
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return {-2, holder, redis.call('PTTL', KEYS[1])} end
local store = redis.call('HMGET', KEYS[2], 'writes', 'of')
local writes = tonumber(store[1] or '0')
if tonumber(ARGV[4]) > writes then writes = tonumber(ARGV[4]) end
if store[2] ~= ARGV[3] then redis.call('DEL', KEYS[3]) end
redis.call('HSET', KEYS[2], 'writer', ARGV[1], 'writes', writes, 'of', ARGV[3])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {1, writes, redis.call('GET', KEYS[3]) or ''}
"#;

/// Writes rows. Keys: owner, store, applied, then those of the rows. Arguments: token, lease in milliseconds, number
/// of this write, highest number answered, and the offset that is applied from now on, `-` for none known any more, or
/// nothing. Then two a row: what to do and the bytes. `S<ttl>` stores, `C<ttl>` stores unless what is there is of the
/// same version and newer, `D` takes out; a TTL is in milliseconds, 0 for none.
/// Answers `{1}`, `{0}` for a late one, `{-1}` when writes were lost, `{-2, holder}` when another writes.
pub(super) const WRITE: &str = r#"
local store = redis.call('HMGET', KEYS[2], 'writer', 'writes')
if not store[1] then return {-1} end
if store[1] ~= ARGV[1] then return {-2, store[1]} end
local writes, number = tonumber(store[2]), tonumber(ARGV[3])
if writes < tonumber(ARGV[4]) then return {-1} end
if writes >= number then return {0} end
redis.call('HSET', KEYS[2], 'writes', number)
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
for i = 4, #KEYS do
  local what, bytes = ARGV[2 * i - 2], ARGV[2 * i - 1]
  local action, ttl = string.sub(what, 1, 1), string.sub(what, 2)
  if action == 'D' then
    redis.call('DEL', KEYS[i])
  else
    local newer = false
    if action == 'C' then
      local old = redis.call('GETRANGE', KEYS[i], 0, 20)
      if #old == 21 and string.sub(old, 1, 9) == string.sub(bytes, 1, 9) then
        local low, high = struct.unpack('<I4I4', string.sub(old, 14, 21))
        local new_low, new_high = struct.unpack('<I4I4', string.sub(bytes, 14, 21))
        newer = high > new_high or (high == new_high and low > new_low)
      end
    end
    if not newer then
      if ttl == '0' then redis.call('SET', KEYS[i], bytes) else redis.call('SET', KEYS[i], bytes, 'PX', ttl) end
    end
  end
end
if ARGV[5] == '-' then redis.call('DEL', KEYS[3]) elseif ARGV[5] ~= '' then redis.call('SET', KEYS[3], ARGV[5]) end
return {1}
"#;

/// Keeps a claim. Keys: owner, store. Arguments: token, lease in milliseconds. Answers as [`WRITE`].
pub(super) const RENEW: &str = r#"
local writer = redis.call('HGET', KEYS[2], 'writer')
if not writer then return {-1} end
if writer ~= ARGV[1] then return {-2, writer} end
if redis.call('PEXPIRE', KEYS[1], ARGV[2]) == 0 then redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
return {1}
"#;

/// Lets a claim go. Keys: owner. Arguments: token.
pub(super) const RELEASE: &str = r#"
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return {1}
"#;

/// One step of a scan on the server that has the key. Keys: any of the partition. Arguments: cursor, pattern.
pub(super) const SCAN: &str = "return redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', 2000)";
