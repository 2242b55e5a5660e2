// Calls of the API. What changes something is signed first, over exactly what is sent.
import { expectCall } from './binding.js'
import { answer } from './passkey.js'

/** An answer that says no, or none at all (`status` 0). */
export class Refused extends Error {
  constructor(message, status, body) {
    super(message)
    this.status = status
    this.body = body
  }
}

/** Make one call as whoever is signed in; return the parsed answer. */
export async function call(method, path, body, headers = {}) {
  let response
  try {
    response = await fetch(path, {
      method,
      headers: { ...(body === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
      body: body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body),
      credentials: 'same-origin',
      redirect: 'error'
    })
  } catch {
    throw new Refused('The server did not answer. Whether it did anything is not known: look before you try again.', 0)
  }
  const answered = await response.json().catch(() => ({}))
  if (!response.ok) {
    throw new Refused(answered.error?.message ?? `The server answered ${response.status}.`, response.status, answered)
  }
  return answered
}

/**
 * Make a call that the person signs with a passkey.
 * `check`, if given, sees the opened challenge before anything is signed, and throws where it is not what was shown.
 */
export async function signed(method, path, body, { check } = {}) {
  const payload = body === undefined ? '' : JSON.stringify(body)
  const opened = await call('POST', '/auth/action/init', {
    userActionHttpMethod: method,
    userActionHttpPath: path,
    userActionPayload: payload,
    userActionServerKind: 'Api'
  })
  await expectCall(opened, method, path, payload)
  if (check) await check(opened, payload)
  const factor = await answer(opened)
  const { userAction } = await call('POST', '/auth/action', {
    challengeIdentifier: opened.challengeIdentifier,
    firstFactor: factor
  })
  return call(method, path, payload === '' ? undefined : payload, { 'x-dfns-useraction': userAction })
}
