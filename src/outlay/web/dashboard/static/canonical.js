// Canonical JSON and digests, as the server and every signature have them: RFC 8785, then ASCII only.
import { sha256 } from './passkey.js'

const HALF_A_PAIR = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/

/** Return the canonical text of a JSON value; throw where it has none. */
export function canonical(value) {
  if (value === null || typeof value === 'boolean') return String(value)
  if (typeof value === 'string') return quoted(value)
  if (typeof value === 'number') {
    if (!Number.isFinite(value) || Math.abs(value) > Number.MAX_SAFE_INTEGER) throw new Error('a number out of range')
    return String(value === 0 ? 0 : value)
  }
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`
  if (typeof value !== 'object') throw new Error('not a JSON value')
  // Texts are sorted by UTF-16 code units, as the canonical form wants it.
  const names = Object.keys(value).sort()
  return `{${names.map((name) => `${quoted(name)}:${canonical(value[name])}`).join(',')}}`
}

/** Return the SHA-256 of a value's canonical text, in lower-case hex. */
export const digest = (value) => sha256(canonical(value))

function quoted(text) {
  if (HALF_A_PAIR.test(text)) throw new Error('half of a surrogate pair')
  const escape = (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`
  return JSON.stringify(text).replace(/[\u0080-\uffff]/g, escape)
}
