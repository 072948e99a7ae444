-- Returns the numbers of ready, leased, delayed and dead messages of one moment.

local ended, due = redis.call('ZCOUNT', LEASES, '-inf', now), redis.call('ZCOUNT', DELAYED, '-inf', now)
return {
  redis.call('LLEN', READY) + redis.call('LLEN', INBOX) + ended + due,
  redis.call('ZCARD', LEASES) - ended,
  redis.call('ZCARD', DELAYED) - due,
  redis.call('LLEN', DEAD),
}
