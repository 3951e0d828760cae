-- rspamd asks the edge once a message, over HTTP, before all other checks. Put this file into /etc/rspamd/ and
-- `dofile '/etc/rspamd/tidegate.lua'` into /etc/rspamd/rspamd.local.lua; its place and time limit are the two settings below.
--
-- Clients in local_addrs and authenticated ones are not asked about. A sender above its rate gets "soft reject", which Postfix
-- and Sendmail say as "451 4.7.1" (rspamd's milter knows no other status) with the edge's own text, at the end of DATA. Ask at
-- RCPT TO instead, by the policy protocol or the milter, where you can: it spares the message's transfer.
--
-- Whatever goes wrong (no edge, no answer in time, an answer that can't be read) is no result: mail flows.

local settings = {
  place = 'http://127.0.0.1:10080',
  timeout_s = 1.0,
}

local rspamd_http = require 'rspamd_http'
local rspamd_logger = require 'rspamd_logger'
local lua_util = require 'lua_util'
local ucl = require 'ucl'

-- The decision that an answer of the edge holds if it defers, else nil.
local function deferral(code, body)
  if code ~= 200 then
    return nil
  end
  local parser = ucl.parser()
  if not parser:parse_string(tostring(body)) then
    return nil
  end
  local said = parser:get_object()
  if type(said) == 'table' and said.verdict == 'defer' and type(said.reply) == 'table' then
    return said
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
    local said = deferral(code, body)
    if said then
      task:set_pre_result('soft reject', said.reply.text, 'tidegate')
    end
  end

  -- A message is a session of its own here, ended at once: rspamd doesn't say which messages came over one connection.
  local query = string.format('session=%s&message=1&end=1', task:get_uid())
  rspamd_http.request({
    task = task,
    url = string.format('%s/v1/decisions/%s?%s', settings.place, ip:to_string(), query),
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
