// What the server asks a passkey to sign, compared with what the person sees, before the passkey is asked.
//
// A challenge is the hash of a preimage. The answer that brings it tells the preimage too; here it is worked out again
// which call, which body and which content belong into it. Nothing is signed that does not fit.
import { canonical, digest } from './canonical.js'
import { NotSigned, sha256 } from './passkey.js'

const LIFE_US = 15 * 60 * 1_000_000

/** Thrown where what is to be signed is not what is shown. Nothing was signed. */
export class Mismatch extends NotSigned {
  constructor(what) {
    super(`STOP: nothing was signed. ${what} Reload the page; if it stays so, tell your administrators at once.`)
  }
}

/** Check that the opened challenge stands for exactly this call. */
export async function expectCall(opened, method, path, payload) {
  const preimage = opened.preimage
  if (typeof preimage !== 'object' || preimage === null) throw new Mismatch('The server does not say what is to be signed.')
  if (preimage.method !== method || preimage.path !== path) throw new Mismatch('The server asks to sign another call than this page makes.')
  if (preimage.payloadDigest !== (await digest(payload === '' ? {} : JSON.parse(payload)))) {
    throw new Mismatch('The server asks to sign another content than this page sends.')
  }
  if (!(preimage.expires - preimage.issued <= LIFE_US)) throw new Mismatch('The server asks for a signature that is good for too long.')
  if (hexOf(opened.challenge) !== (await sha256(`outlay.action.v1\n${canonical(preimage)}`))) {
    throw new Mismatch('What the passkey would sign is not what the server says it is.')
  }
}

/** Check that the opened challenge decides about what this page shows, and about the groups that it shows. */
export async function expectDecision(opened, content, groups) {
  const { org, intentDigest, groupsDigest } = opened.preimage
  if (org !== content.org || intentDigest !== (await digest(content))) {
    throw new Mismatch('What the server asks to sign is not what this page shows.')
  }
  if (groupsDigest !== (await digest(groups))) {
    throw new Mismatch('Other people are asked than this page shows: the policies may have changed since it was opened.')
  }
}

function hexOf(text) {
  const plain = atob(text.replaceAll('-', '+').replaceAll('_', '/'))
  return Array.from(plain, (char) => char.charCodeAt(0).toString(16).padStart(2, '0')).join('')
}
