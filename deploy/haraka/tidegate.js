'use strict'
// Haraka asks the edge at MAIL FROM and at each RCPT TO, over HTTP. Put this file into plugins/, and `tidegate` into
// config/plugins before the plugins that accept recipients. If the edge is not at 127.0.0.1:10080, set its address in
// config/tidegate.ini:
//
//     host = 127.0.0.1
//     port = 10080
//     timeout_ms = 1000
//
// The refusal is a DSN object: with DENYSOFT and a text alone, Haraka would close the connection with another code. Every error
// ends in next(), so mail flows. If a plugin never calls next(), Haraka defers the client after 30 seconds.

const http = require('node:http')
const { URLSearchParams } = require('node:url')
const DSN = require('haraka-dsn')

exports.register = function () {
    const given = this.config.get('tidegate.ini').main || {}
    this.address = { host: given.host || '127.0.0.1', port: Number(given.port) || 10080 }
    this.timeout_ms = Number(given.timeout_ms) || 1000
}

exports.hook_mail = function (next, connection) {
    this.ask(next, connection, {})
}

exports.hook_rcpt = function (next, connection, params) {
    this.ask(next, connection, { recipient: String(params[0]) })
}

exports.hook_disconnect = function (next, connection) {
    this.ask(next, connection, { end: 1 })
}

exports.ask = function (next, connection, more) {
    let answered = false
    const answer = (...verdict) => {
        if (answered) return
        answered = true
        next(...verdict)
    }
    const { remote, transaction, uuid } = connection
    if (connection.relaying || !remote.ip || !(transaction || more.end)) return answer()

    const query = new URLSearchParams({ session: uuid, message: transaction ? transaction.uuid : '', ...more })
    const request = http.get(
        { ...this.address, path: `/v1/decisions/${encodeURIComponent(remote.ip)}?${query}`, timeout: this.timeout_ms },
        (response) => {
            let body = ''
            response.setEncoding('utf8')
            response.on('data', (part) => { body += part })
            response.on('error', () => answer())
            response.on('end', () => {
                const reply = more.end ? undefined : refusal(body)
                if (reply) answer(DENYSOFT, DSN.create(reply.code, reply.text, ...detail(reply.status)))
                else answer()
            })
        },
    )
    request.on('timeout', () => request.destroy(new Error('timeout')))
    request.on('error', () => answer())
}

// Return the reply of an answer that defers, else undefined.
function refusal (body) {
    try {
        const decision = JSON.parse(body)
        return decision.verdict === 'defer' ? decision.reply : undefined
    } catch {
        return undefined
    }
}

// Convert "4.7.500" to the arguments of DSN.create after the text: subject and detail.
function detail (status) {
    return status.split('.').slice(1).map(Number)
}
