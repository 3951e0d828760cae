-- KumoMTA (2024.09.02 or newer) asks the edge once per message, at MAIL FROM, over HTTP. Put this file next to your policy and
-- call it from your own event handler, because KumoMTA has one handler per event:
--
--     local tidegate = dofile '/opt/kumomta/etc/policy/tidegate.lua'
--
--     kumo.on('smtp_server_mail_from', function(sender, conn_meta)
--       tidegate.check(conn_meta)
--     end)
--
-- The edge's address and the timeout are the two settings below. The edge isn't asked about authenticated clients; omit the
-- call for your own networks. After any error (no edge, a timeout, an unreadable answer) mail flows.

local kumo = require 'kumo'

local tidegate = {
  address = 'http://127.0.0.1:10080',
  timeout = '1 second',
}

-- Number the messages within their connection: the edge needs a name for both, of any form.
local function next_message(conn_meta)
  local number = (conn_meta:get_meta 'tidegate_messages' or 0) + 1
  conn_meta:set_meta('tidegate_messages', number)
  return string.format('%d', number)
end

-- Return the address in "192.0.2.7:4711", "[::ffff:192.0.2.7]:4711" or "[2001:db8::7]:4711".
local function address_in(received_from)
  return received_from:match '^([%d.]+):%d+$'
    or received_from:match '^%[::ffff:([%d.]+)%]:%d+$'
    or received_from:match '^%[([%x:.]+)%]:%d+$'
end

local function escaped(text)
  return (text:gsub('[^%w.:-]', function(character)
    return string.format('%%%02X', character:byte())
  end))
end

-- Return the edge's answer as a table; raises an error if there is none.
local function ask(ip, session, message)
  local client = kumo.http.build_client { timeout = tidegate.timeout }
  local response = client
    :get(
      string.format('%s/v1/decisions/%s?session=%s&message=%s', tidegate.address, ip, escaped(session), escaped(message))
    )
    :send()
  if response:status_code() ~= 200 then
    error('status ' .. response:status_code())
  end
  return kumo.serde.json_parse(response:text())
end

-- Return the code and text of a refusal, or nil.
function tidegate.refusal(conn_meta)
  local received_from = conn_meta:get_meta 'received_from'
  local ip = received_from and address_in(received_from)
  if not ip or conn_meta:get_meta 'authn_id' then
    return nil
  end
  local ok, decision = pcall(ask, ip, received_from, next_message(conn_meta))
  if ok and type(decision) == 'table' and decision.verdict == 'defer' and type(decision.reply) == 'table' then
    return decision.reply.code, decision.reply.status .. ' ' .. decision.reply.text
  end
  return nil
end

-- Refuse the message with kumo.reject if its sender exceeds its rate.
function tidegate.check(conn_meta)
  local code, text = tidegate.refusal(conn_meta)
  if code then
    kumo.reject(code, text)
  end
end

return tidegate
