-- KumoMTA (2024.09.02 or newer) asks the edge once a message, at MAIL FROM, over HTTP. Put this file beside your policy and call
-- it from your own event, because KumoMTA keeps one function an event:
--
--     local tidegate = dofile '/opt/kumomta/etc/policy/tidegate.lua'
--
--     kumo.on('smtp_server_mail_from', function(sender, conn_meta)
--       tidegate.check(conn_meta)
--     end)
--
-- Its place and time limit are the two settings below. Authenticated clients are not asked about; leave out the call for your
-- own networks. Whatever goes wrong (no edge, no answer in time, an answer that can't be read) ends in nothing: mail flows.

local kumo = require 'kumo'

local tidegate = {
  place = 'http://127.0.0.1:10080',
  timeout = '1 second',
}

-- Messages are numbered within their connection: the edge needs names for both, whatever they are.
local function next_message(conn_meta)
  local number = (conn_meta:get_meta 'tidegate_messages' or 0) + 1
  conn_meta:set_meta('tidegate_messages', number)
  return string.format('%d', number)
end

-- "192.0.2.7:4711", "[::ffff:192.0.2.7]:4711" or "[2001:db8::7]:4711" to the address.
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

-- The edge's answer as a table; raises what goes wrong.
local function ask(ip, session, message)
  local client = kumo.http.build_client { timeout = tidegate.timeout }
  local response = client
    :get(
      string.format('%s/v1/decisions/%s?session=%s&message=%s', tidegate.place, ip, escaped(session), escaped(message))
    )
    :send()
  if response:status_code() ~= 200 then
    error('status ' .. response:status_code())
  end
  return kumo.serde.json_parse(response:text())
end

-- The code and text to refuse with, or nothing.
function tidegate.refusal(conn_meta)
  local received_from = conn_meta:get_meta 'received_from'
  local ip = received_from and address_in(received_from)
  if not ip or conn_meta:get_meta 'authn_id' then
    return nil
  end
  local fine, said = pcall(ask, ip, received_from, next_message(conn_meta))
  if fine and type(said) == 'table' and said.verdict == 'defer' and type(said.reply) == 'table' then
    return said.reply.code, said.reply.status .. ' ' .. said.reply.text
  end
  return nil
end

-- Refuse the message, by kumo.reject, if its sender is above its rate.
function tidegate.check(conn_meta)
  local code, text = tidegate.refusal(conn_meta)
  if code then
    kumo.reject(code, text)
  end
end

return tidegate
