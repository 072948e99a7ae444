-- Deletes the ready and the delayed messages. Returns how many.

local count = redis.call('LLEN', READY) + redis.call('LLEN', INBOX) + redis.call('ZCARD', DELAYED)
redis.call('UNLINK', READY, INBOX, DELAYED, ATTEMPTS)
return count + redis.call('ZREMRANGEBYSCORE', LEASES, '-inf', now)
