// The digest of a file's rows, as it is signed: outlay.evidence.merkle over the canonical text of each item.
import { canonical } from './canonical.js'

const DOMAIN = new TextEncoder().encode('outlay.batch.v1\n')
const SIZE = 32
const AT_ONCE = 512

/** The rows of one file in their order, 32 bytes of memory each. */
export class RowsDigest {
  count = 0
  #waiting = []
  #leaves = new Uint8Array(SIZE * 1024)

  /** Append an item. */
  async add(item) {
    this.#waiting.push(new TextEncoder().encode(canonical(item)))
    if (this.#waiting.length >= AT_ONCE) await this.#hash()
  }

  /** Be done with appending: from then on `count` tells all of them. */
  finish() {
    return this.#hash()
  }

  /** Return the digest of all of them in lower-case hex; one or more. */
  async digest() {
    await this.#hash()
    let level = this.#leaves.subarray(0, this.count * SIZE)
    while (level.length > SIZE) level = await above(level)
    const count = new Uint8Array(8)
    new DataView(count.buffer).setBigUint64(0, BigInt(this.count))
    const whole = await hash(2, count, level)
    return [...whole].map((byte) => byte.toString(16).padStart(2, '0')).join('')
  }

  async #hash() {
    const texts = this.#waiting
    this.#waiting = []
    const made = await Promise.all(texts.map((text) => hash(0, text)))
    while (this.#leaves.length < (this.count + made.length) * SIZE) {
      const larger = new Uint8Array(this.#leaves.length * 2)
      larger.set(this.#leaves)
      this.#leaves = larger
    }
    for (const each of made) {
      this.#leaves.set(each, this.count * SIZE)
      this.count += 1
    }
    await pause()
  }
}

/** Return the level above another one; a node without a sibling moves up as it is. */
async function above(level) {
  const nodes = level.length / SIZE
  const next = new Uint8Array(Math.ceil(nodes / 2) * SIZE)
  for (let first = 0; first + 1 < nodes; first += 2 * AT_ONCE) {
    const pairs = []
    for (let at = first; at + 1 < nodes && at < first + 2 * AT_ONCE; at += 2) {
      pairs.push(hash(1, level.subarray(at * SIZE, (at + 2) * SIZE)))
    }
    for (const [at, node] of (await Promise.all(pairs)).entries()) next.set(node, (first / 2 + at) * SIZE)
    await pause()
  }
  if (nodes % 2) next.set(level.subarray((nodes - 1) * SIZE), next.length - SIZE)
  return next
}

/** Let the page answer whoever uses it: many hashes one after the other would keep it from that. */
export function pause() {
  return new Promise((resolve) => setTimeout(resolve))
}

async function hash(kind, ...parts) {
  const length = parts.reduce((sum, part) => sum + part.length, 1 + DOMAIN.length)
  const bytes = new Uint8Array(length)
  bytes[0] = kind
  bytes.set(DOMAIN, 1)
  let at = 1 + DOMAIN.length
  for (const part of parts) {
    bytes.set(part, at)
    at += part.length
  }
  return new Uint8Array(await crypto.subtle.digest('SHA-256', bytes))
}
