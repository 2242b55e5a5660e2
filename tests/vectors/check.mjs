// Canonical JSON, challenges and key assertions once more, in another language and without any dependency.
//
//   node check.mjs              check every vector file beside this one; exit 1 and name what differs
//   node check.mjs canonical    read one JSON text a line (base64), print its canonical text or "refused"
//
// A reader of its own, because JSON.parse keeps the last of two members and rounds numbers silently.

import { createHash, createPublicKey, verify } from 'node:crypto'
import { readFileSync } from 'node:fs'

class Refused extends Error {}

const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y
// String.isWellFormed needs Node 20; Debian 12 has 18.
const HALF_A_PAIR = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/
const STRING = /"(?:[^"\\\u0000-\u001f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*"/y
const SPACE = /[ \t\n\r]*/y

function strictRead(text, maxDepth) {
  let at = 0
  const match = (pattern) => {
    pattern.lastIndex = at
    const found = pattern.exec(text)
    if (found) at += found[0].length
    return found && found[0]
  }
  const skip = () => match(SPACE)
  const expect = (character) => {
    if (text[at] !== character) throw new Refused(`expected ${character} at ${at}`)
    at += 1
    skip()
  }
  const string = () => {
    const literal = match(STRING)
    if (literal === null) throw new Refused(`no string at ${at}`)
    const value = JSON.parse(literal)
    if (HALF_A_PAIR.test(value)) throw new Refused('half a surrogate pair')
    return value
  }
  const list = (close, item) => {
    at += 1
    skip()
    if (text[at] === close) return void (at += 1)
    for (;;) {
      item()
      skip()
      if (text[at] === close) return void (at += 1)
      expect(',')
    }
  }
  const value = (depth) => {
    const first = text[at]
    if (first === '{' || first === '[') {
      if (depth === 0) throw new Refused('nested too deeply')
    }
    if (first === '{') {
      const members = new Map()
      list('}', () => {
        const key = string()
        if (members.has(key)) throw new Refused(`the member ${key} twice`)
        skip()
        expect(':')
        members.set(key, value(depth - 1))
      })
      return members
    }
    if (first === '[') {
      const items = []
      list(']', () => items.push(value(depth - 1)))
      return items
    }
    if (first === '"') return string()
    for (const [word, meaning] of [['true', true], ['false', false], ['null', null]]) {
      if (text.startsWith(word, at)) {
        at += word.length
        return meaning
      }
    }
    const literal = match(NUMBER)
    if (literal === null) throw new Refused(`no value at ${at}`)
    return exactNumber(literal)
  }
  skip()
  const result = value(maxDepth)
  skip()
  if (at !== text.length) throw new Refused('more after the value')
  return result
}

// [digits without outer zeros, power of ten of the last digit]
function decompose(literal) {
  const [, whole, fraction = '', exponent = '0'] = /^-?([0-9]+)(?:\.([0-9]+))?(?:[eE]\+?(-?[0-9]+))?$/.exec(literal)
  const digits = (whole + fraction).replace(/^0+/, '')
  const short = digits.replace(/0+$/, '')
  return [short, BigInt(exponent) - BigInt(fraction.length) + BigInt(digits.length - short.length)]
}

function exactNumber(literal) {
  const number = Number(literal)
  const [digits, scale] = decompose(literal)
  if (digits === '') return 0
  if (!Number.isFinite(number) || Math.abs(number) > Number.MAX_SAFE_INTEGER) throw new Refused(`${literal} is too large`)
  const [kept, keptScale] = decompose(String(number))
  if (kept !== digits || keptScale !== scale) throw new Refused(`${literal} has more digits than a double`)
  return number
}

function quoted(text) {
  return JSON.stringify(text).replace(/[\u0080-\uffff]/g, (unit) => '\\u' + unit.charCodeAt(0).toString(16).padStart(4, '0'))
}

function canonical(value) {
  if (typeof value === 'string') return quoted(value)
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`
  if (value instanceof Map) {
    const keys = [...value.keys()].sort() // the default order is by UTF-16 code units
    return `{${keys.map((key) => `${quoted(key)}:${canonical(value.get(key))}`).join(',')}}`
  }
  return String(Object.is(value, -0) ? 0 : value)
}

const sha256 = (data) => createHash('sha256').update(data)

function canonicalOf(bytes, maxDepth = 16) {
  const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  return canonical(strictRead(text, maxDepth))
}

function attempt(bytes) {
  try {
    return canonicalOf(bytes)
  } catch (error) {
    if (error instanceof Refused || error instanceof TypeError) return null
    throw error
  }
}

function checkCanonical(vector, differ) {
  const bytes = vector.input_hex === undefined ? Buffer.from(vector.input, 'utf8') : Buffer.from(vector.input_hex, 'hex')
  const text = attempt(bytes)
  differ(vector.error ? null : vector.canonical, text)
  if (text !== null) differ(vector.digest, sha256(text).digest('hex'))
}

function checkNumber(vector, differ) {
  differ(vector.text, String(Buffer.from(vector.double, 'hex').readDoubleBE() || 0))
}

function checkChallenge(vector, differ) {
  const document = canonicalOf(Buffer.from(JSON.stringify(vector.preimage), 'utf8'))
  differ(vector.challenge, sha256(`${vector.domain}\n${document}`).digest('base64url'))
}

function checkAssertion(vector, differ) {
  const { clientData, signature } = vector.firstFactor.credentialAssertion
  const message = Buffer.from(clientData, 'base64url')
  const key = createPublicKey(vector.publicKey)
  const digest = key.asymmetricKeyType === 'ed25519' ? null : 'sha256'
  differ(true, verify(digest, message, key, Buffer.from(signature, 'base64url')))
  differ(vector.challenge, JSON.parse(message.toString('utf8')).challenge)
}

function checkFiles() {
  const files = {
    'canonical.json': checkCanonical,
    'numbers.json': checkNumber,
    'challenges.json': checkChallenge,
    'assertions.json': checkAssertion,
  }
  let failures = 0
  for (const [file, check] of Object.entries(files)) {
    const vectors = JSON.parse(readFileSync(new URL(file, import.meta.url), 'utf8'))
    for (const vector of vectors) {
      check(vector, (expected, actual) => {
        if (expected === actual) return
        failures += 1
        console.error(`${file}, ${vector.name ?? vector.double}: expected ${expected}, got ${actual}`)
      })
    }
    console.log(`${file}: ${vectors.length} vectors`)
  }
  process.exitCode = failures ? 1 : 0
}

if (process.argv[2] === 'canonical') {
  for (const line of readFileSync(0, 'ascii').split('\n').filter(Boolean)) {
    console.log(attempt(Buffer.from(line, 'base64')) ?? 'refused')
  }
} else {
  checkFiles()
}
