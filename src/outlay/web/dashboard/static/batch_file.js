// Reading a file of payouts in the browser: the same rules and the same reasons as outlay.client.batch_file, row by row.
//
// Nothing in it is guessed: what could be meant in two ways is refused, with a reason that says what to write.
import { csvRows } from './batch_csv.js'
import { jsonRows } from './batch_json.js'
import { keccak256 } from './keccak.js'

export const COLUMNS = ['reference', 'recipient', 'network', 'asset', 'amount', 'memo']
export const COUNT_MAX = 100_000

const MEMO_MAX = 200
const AMOUNT_MAX = 2n ** 256n - 1n
const HIDDEN = /[\p{C}\p{Zl}\p{Zp}]|(?! )\p{Zs}/u
const PLAIN = /^[\x20-\x7e]*$/

/** Thrown where a file cannot be read as a whole. */
export class FileRefused extends Error {}

/** One file. `rows` yields the good rows; the rest is known when it is at its end. */
export class BatchFile {
  count = 0 // rows, good or not
  problems = [] // of each its row, column and reason
  warnings = []
  lowerCase = 0 // recipients without a checksum
  totals = new Map() // of good rows, by what the file calls the asset: [count, base units]
  #byName = new Map()
  #references = new Map()
  #payments = new Map()

  /** `network`: of the wallet or pool that pays. `assets`: of that network, each its `key`, `symbol`, `decimals`. */
  constructor(network, assets) {
    this.network = network
    for (const each of assets) {
      if (assets.filter(({ symbol }) => symbol === each.symbol).length === 1) this.#byName.set(each.symbol, each)
    }
    for (const each of assets) this.#byName.set(each.key, each)
  }

  /** Yield the number and the item of each good row, as it is uploaded. `chunks`: the bytes of the file in parts of any size. */
  async *rows(chunks) {
    for await (const [row, given] of objects(texts(chunks))) {
      this.count += 1
      if (this.count > COUNT_MAX) throw new FileRefused(`holds more than ${COUNT_MAX.toLocaleString('en')} payouts: split it`)
      const before = this.problems.length
      let item = null
      if (typeof given === 'string') this.#wrong(row, 'row', given)
      else item = this.#item(row, given)
      if (item !== null && this.problems.length === before) {
        const total = this.totals.get(item.asset) ?? [0, 0n]
        this.totals.set(item.asset, [total[0] + 1, total[1] + BigInt(item.amount)])
        yield [row, item]
      }
    }
    if (this.count === 0) throw new FileRefused('holds no payouts')
  }

  #wrong(row, column, reason) {
    this.problems.push({ row, column, reason })
  }

  #item(row, given) {
    const cells = Object.fromEntries(COLUMNS.map((name) => [name, stripped(given.get(name) ?? '')]))
    const hidden = COLUMNS.map((name) => [name, unreadable(cells[name])]).filter(([, why]) => why !== null)
    for (const [name, why] of hidden) this.#wrong(row, name, why)
    if (hidden.length) return null
    this.#checkReference(row, cells.reference)
    const recipient = this.#recipient(row, cells.recipient)
    if (cells.network !== this.network) {
      this.#wrong(row, 'network', `is ${cells.network || 'empty'}; the wallet or pool pays on ${this.network}`)
    }
    const asset = this.#asset(row, cells.asset)
    const amount = asset === null ? null : this.#amount(row, cells.amount, asset)
    if ([...cells.memo].length > MEMO_MAX) this.#wrong(row, 'memo', `is longer than ${MEMO_MAX} characters`)
    if (asset === null || amount === null || recipient === null) return null
    this.#notePayment(row, recipient, asset, amount)
    const item = {
      externalId: cells.reference,
      network: cells.network,
      asset: cells.asset,
      recipient: cells.recipient,
      amount: String(amount)
    }
    return cells.memo === '' ? item : { ...item, memo: cells.memo }
  }

  #checkReference(row, text) {
    if (!/^[\x21-\x7e]{1,50}$/.test(text)) {
      const why = text === '' ? 'is empty' : 'is not 1 to 50 printable ASCII characters without spaces'
      this.#wrong(row, 'reference', `${why}: give every payout an id of your own`)
      return
    }
    const earlier = this.#references.get(text)
    if (earlier === undefined) this.#references.set(text, row)
    else if (earlier !== row) this.#wrong(row, 'reference', `${text} is the reference of row ${earlier} too: each pays once`)
  }

  #recipient(row, text) {
    if (!/^0x[0-9a-fA-F]{40}$/.test(text)) {
      this.#wrong(row, 'recipient', text === '' ? 'is empty' : 'an address is 0x followed by 40 hexadecimal digits')
      return null
    }
    const digits = text.slice(2)
    const lower = digits.toLowerCase()
    if (digits !== lower && digits !== digits.toUpperCase() && text !== checksum(lower)) {
      this.#wrong(
        row,
        'recipient',
        'the upper and lower case of this address does not match its checksum (EIP-55):' +
          ' compare it with the source, a character is probably wrong'
      )
      return null
    }
    if (digits === lower && /[a-f]/.test(digits)) this.lowerCase += 1
    return `0x${lower}`
  }

  #asset(row, text) {
    const found = this.#byName.get(text) ?? this.#byName.get(/^0[xX]/.test(text) ? text.toLowerCase() : text) ?? null
    if (found === null) {
      const listed = [...new Set([...this.#byName.values()].map(({ symbol }) => symbol))].sort().join(', ')
      this.#wrong(row, 'asset', `${text || 'nothing'} is not listed for ${this.network}; there is: ${listed}`)
    }
    return found
  }

  #amount(row, text, asset) {
    const why = amountProblem(text, asset)
    if (why !== null) {
      this.#wrong(row, 'amount', why)
      return null
    }
    return unitsOf(text, asset.decimals)
  }

  #notePayment(row, recipient, asset, amount) {
    const payment = `${recipient} ${asset.key} ${amount}`
    const earlier = this.#payments.get(payment)
    if (earlier === undefined) this.#payments.set(payment, row)
    else this.warnings.push({ row, column: 'recipient', reason: `the same amount goes to the same recipient in row ${earlier}` })
  }
}

function unitsOf(text, decimals) {
  const [whole, part = ''] = text.split('.')
  return BigInt(whole + part.padEnd(decimals, '0'))
}

/** Return why an amount cannot be taken, and what to write; null: it can. */
export function amountProblem(text, asset) {
  const found = /^(0|[1-9][0-9]*)(?:\.([0-9]+))?$/.exec(text)
  if (found === null) return advice(text)
  const decimals = (found[2] ?? '').length
  if (decimals > asset.decimals) return `has ${decimals} decimals; ${asset.symbol} has ${asset.decimals}`
  const number = unitsOf(text, asset.decimals)
  if (number === 0n) return 'is 0, which pays nobody'
  return number <= AMOUNT_MAX ? null : 'is more than any asset has'
}

function advice(text) {
  const example = 'write digits with a point before the decimals, such as 1234.56'
  if (text === '') return 'is empty'
  if (!PLAIN.test(text)) return `holds something else than digits and a point: ${example}`
  if (/^[+-]/.test(text)) return 'has a sign: write it without'
  if (/^[0-9.,]+[eE][+-]?[0-9]+$/.test(text)) return 'is written with an exponent: write all digits'
  if (text.includes(',')) return `holds a comma, which means thousands to some and decimals to others: ${example}`
  if (text.split('.').length > 2) return `holds several points: ${example}`
  if (/[ '_]/.test(text)) return `has its digits in groups: ${example}`
  if (/^0[0-9.]+$/.test(text)) return 'begins with zeros: write it without'
  if (/^[0-9]*\.[0-9]*$/.test(text)) return 'has no digit before or after its point: write 0.5 or 5'
  return `is no number: ${example}`
}

function checksum(lower) {
  const shadow = keccak256(lower)
  let text = '0x'
  for (let at = 0; at < 40; at += 1) text += shadow[at] >= '8' ? lower[at].toUpperCase() : lower[at]
  return text
}

function stripped(text) {
  return text.replace(/^[ \t]+|[ \t]+$/g, '')
}

/** Return why a cell cannot be told from another one by looking at it; null: it can. */
function unreadable(text) {
  if (PLAIN.test(text)) return null
  const found = HIDDEN.exec(text)
  if (found !== null) {
    const number = found[0].codePointAt(0).toString(16).toUpperCase().padStart(4, '0')
    return `holds a character that does not show (U+${number}): remove it`
  }
  return text.normalize('NFC') === text ? null : "is not in Unicode's composed form (NFC): normalize it"
}

// From bytes to rows

/** Yield the text of a file in UTF-8, or in UTF-16 that says so. */
async function* texts(chunks) {
  let start = new Uint8Array(0)
  let decoder = null
  for await (const chunk of chunks) {
    let part = chunk
    if (decoder === null) {
      part = new Uint8Array(start.length + chunk.length)
      part.set(start)
      part.set(chunk, start.length)
      start = part
      if (start.length < 4) continue
      ;[decoder, part] = opened(start)
    }
    yield decoded(decoder, part, true)
  }
  if (decoder === null) {
    const [late, part] = opened(start)
    yield decoded(late, part, true)
    decoder = late
  }
  decoded(decoder, new Uint8Array(0), false)
}

function opened(start) {
  const [first, second, third] = start
  const make = (name) => new TextDecoder(name, { fatal: true, ignoreBOM: true })
  if (first === 0xef && second === 0xbb && third === 0xbf) return [make('utf-8'), start.subarray(3)]
  if (first === 0xff && second === 0xfe) return [make('utf-16le'), start.subarray(2)]
  if (first === 0xfe && second === 0xff) return [make('utf-16be'), start.subarray(2)]
  return [make('utf-8'), start]
}

function decoded(decoder, part, stream) {
  let text
  try {
    text = decoder.decode(part, { stream })
  } catch {
    throw new FileRefused('is not UTF-8 throughout (an export in Latin-1 or Windows-1252?): save it as CSV UTF-8')
  }
  if (text.includes('\0')) {
    throw new FileRefused('holds zero bytes: it is no CSV or JSON, or UTF-16 without a mark; save it as UTF-8')
  }
  return text
}

/** Yield each row with its number: its cells by column, or what is wrong with it as a whole. */
async function* objects(parts) {
  let start = ''
  for await (const text of { [Symbol.asyncIterator]: () => ({ next: () => parts.next() }) }) {
    start += text
    if (/[^ \t\r\n]/.test(start)) break
  }
  const rest = chained(start, parts)
  const read = /^[ \t\r\n]*[[{]/.test(start) ? jsonRows : csvRows
  yield* read(rest, COLUMNS, (reason) => new FileRefused(reason))
}

async function* chained(start, parts) {
  yield start
  yield* parts
}
