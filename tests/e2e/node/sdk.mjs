// What every script here shares: the official packages as they are installed, input, output, and what went over the
// wire. A script reads one JSON object from standard input and writes one to standard output.

import { createHash, createPublicKey, generateKeyPairSync, sign } from 'node:crypto'
import diagnostics from 'node:diagnostics_channel'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'

const require = createRequire(new URL('../../../tools/package.json', import.meta.url))

export const { BaseAuthApi, DfnsApiClient, DfnsAuthenticator, DfnsDelegatedApiClient, PolicyPendingError } =
  require('@dfns/sdk')
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

const KINDS = {
  Ed25519: ['ed25519'],
  'P-256': ['ec', { namedCurve: 'prime256v1' }],
  secp256k1: ['ec', { namedCurve: 'secp256k1' }],
  RSA: ['rsa', { modulusLength: 2048 }],
}
export const keyKinds = Object.keys(KINDS)

export function newKey(kind) {
  const { privateKey, publicKey } = generateKeyPairSync(...KINDS[kind])
  return {
    privateKey: privateKey.export({ type: 'pkcs8', format: 'pem' }),
    publicKey: publicKey.export({ type: 'spki', format: 'pem' }),
  }
}

// The SDK's key signer cannot prove that a new key is held, so this is written from the contract, in another language
// than the server.
export function attest({ credentialId, privateKey }, challenge) {
  const base64url = (text) => Buffer.from(text).toString('base64url')
  const publicKey = createPublicKey(privateKey).export({ type: 'spki', format: 'pem' })
  const clientData = JSON.stringify({ challenge, type: 'key.create' })
  const clientDataHash = createHash('sha256').update(clientData).digest('hex')
  const signature = sign(undefined, Buffer.from(JSON.stringify({ clientDataHash, publicKey })), privateKey)
  const attestation = JSON.stringify({ publicKey, signature: signature.toString('hex') })
  return { credId: credentialId, clientData: base64url(clientData), attestationData: base64url(attestation) }
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

// Returns what a call that waits for approval was answered with: the SDK throws it.
export async function pending(call) {
  try {
    await call()
  } catch (error) {
    if (error instanceof PolicyPendingError) return { httpStatus: error.httpStatus, request: error.context }
    throw error
  }
  throw new Error('the call does not wait')
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
