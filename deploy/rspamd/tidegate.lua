-- rspamd asks the edge once per message, over HTTP, before all other checks. Put this file into /etc/rspamd/ and
-- `dofile '/etc/rspamd/tidegate.lua'` into /etc/rspamd/rspamd.local.lua. The edge's address and the timeout are the two
-- settings below.
--
-- The edge isn't asked about clients in local_addrs and authenticated ones. A sender that exceeds its rate gets "soft reject".
-- Postfix and Sendmail reply with "451 4.7.1" (the only status of rspamd's milter) and the edge's text, at the end of DATA.
-- Prefer the policy protocol or the milter if you can: they ask before the message is transferred.
--
-- After any error (no edge, a timeout, an unreadable answer) there is no result, and mail flows.

local settings = {
  address = 'http://127.0.0.1:10080',
  timeout_s = 1.0,
}

local rspamd_http = require 'rspamd_http'
local rspamd_logger = require 'rspamd_logger'
local lua_util = require 'lua_util'
local ucl = require 'ucl'

-- Return the decision in an answer of the edge if it defers, else nil.
local function deferral(code, body)
  if code ~= 200 then
    return nil
  end
  local parser = ucl.parser()
  if not parser:parse_string(tostring(body)) then
    return nil
  end
  local decision = parser:get_object()
  if type(decision) == 'table' and decision.verdict == 'defer' and type(decision.reply) == 'table' then
    return decision
  end
  return nil
end

local function ask(task)
  local ip = task:get_from_ip()
  if not ip or not ip:is_valid() or ip:is_local() or task:get_user() or lua_util.is_rspamc_or_controller(task) then
    return
  end

  local function answered(err, code, body)
    if err then
      rspamd_logger.warnx(task, 'tidegate has no opinion: %s', err)
      return
    end
    local decision = deferral(code, body)
    if decision then
      task:set_pre_result('soft reject', decision.reply.text, 'tidegate')
    end
  end

  -- Each message is a session of its own, ended immediately, because rspamd doesn't expose the connection.
  local query = string.format('session=%s&message=1&end=1', task:get_uid())
  rspamd_http.request({
    task = task,
    url = string.format('%s/v1/decisions/%s?%s', settings.address, ip:to_string(), query),
    callback = answered,
    timeout = settings.timeout_s,
    keepalive = true,
  })
end

rspamd_config:register_symbol({
  name = 'TIDEGATE',
  type = 'prefilter',
  callback = ask,
  priority = 10,
  flags = 'empty',
})
