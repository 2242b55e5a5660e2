// What every script here shares: the official packages as they are installed, input, output, and what went over the
// wire. A script reads one JSON object from standard input and writes one to standard output.

import diagnostics from 'node:diagnostics_channel'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'

const require = createRequire(new URL('../../../tools/package.json', import.meta.url))

export const { BaseAuthApi, DfnsApiClient, DfnsAuthenticator, DfnsDelegatedApiClient } = require('@dfns/sdk')
export const { AsymmetricKeySigner } = require('@dfns/sdk-keysigner')

export const input = JSON.parse(readFileSync(0, 'utf8'))

// The SDK does not show HTTP statuses, so they are read from Node's own HTTP client.
export const exchanges = []
diagnostics.subscribe('http.client.response.finish', ({ request, response }) => {
  exchanges.push({ method: request.method, path: request.path, status: response.statusCode })
})

export function signer(who) {
  return new AsymmetricKeySigner({ credId: who.credentialId, privateKey: who.privateKey })
}

export function client(who, orgId = input.orgId) {
  return new DfnsApiClient({ baseUrl: input.url, orgId, authToken: who.token, signer: signer(who) })
}

// Returns what a call was refused with, as the SDK tells it.
export async function refusal(call) {
  try {
    await call()
  } catch (error) {
    return {
      name: error.constructor.name,
      httpStatus: error.httpStatus ?? null,
      message: error.message,
      body: error.context?.body ?? null,
    }
  }
  throw new Error('the call was not refused')
}

export async function until(what, ready) {
  const deadline = Date.now() + 20_000
  for (;;) {
    const found = await ready()
    if (found) return found
    if (Date.now() > deadline) throw new Error(`waited in vain for ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 30))
  }
}

export function output(result) {
  process.stdout.write(JSON.stringify({ ...result, exchanges }))
}
