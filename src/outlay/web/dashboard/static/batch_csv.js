// Lines of CSV: separators comma, semicolon or tab; cells in quotes; the columns are named by the first line.

const SEPARATORS = [',', ';', '\t']
const NAMES = { ',': 'comma', ';': 'semicolon', '\t': 'tab' }
const OPTIONAL = ['memo']
const LINE_MAX = 64 * 1024
const CELL_MAX = 131_072
const INK = /[^\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]/

/** Yield the number of each row and its cells by column, or what is wrong with it. `refused` makes what is thrown. */
export async function* csvRows(texts, columns, refused) {
  const all = lines(texts, refused)
  let skipped = 0
  let heading = ''
  for (let found = await all.next(); !found.done; found = await all.next()) {
    heading = found.value
    if (/[^ \t\r\n]/.test(heading)) break
    skipped += 1
  }
  const [separator, named] = readHeading(heading, columns, refused)
  let read = 0
  while (true) {
    const row = skipped + read + 2
    const parser = new Cells(separator, true)
    let found = await all.next()
    if (found.done) return
    read += 1
    const unread = (why) => refused(`cannot be read from line ${row} on (${why}): is a quote missing?`)
    while (!isWhole(parser, found.value, unread)) {
      found = await all.next() // what is wrong with the file as such is said as it is
      if (found.done) throw unread('unexpected end of data')
      read += 1
    }
    const { cells } = parser
    if (!cells.some((cell) => INK.test(cell))) continue
    if (cells.length !== named.length) {
      yield [row, `has ${cells.length} cells instead of ${named.length}: put what holds a ${NAMES[separator]} in quotes`]
      continue
    }
    yield [row, new Map(named.map((name, at) => [name, cells[at]]))]
  }
}

/** Return whether a row ends with this line. */
function isWhole(parser, line, unread) {
  try {
    return parser.add(line)
  } catch (error) {
    throw unread(error.message)
  }
}

/** Yield lines with their ends. */
async function* lines(texts, refused) {
  const END = /\r\n|\r(?!$)|\n/g
  let rest = ''
  for await (const text of texts) {
    rest += text
    let at = 0
    END.lastIndex = 0
    for (let found = END.exec(rest); found !== null; found = END.exec(rest)) {
      yield rest.slice(at, END.lastIndex)
      at = END.lastIndex
    }
    rest = rest.slice(at)
    if (rest.length > LINE_MAX) {
      throw refused(`has a line of more than ${LINE_MAX.toLocaleString('en')} characters: it is no CSV`)
    }
  }
  if (rest !== '') yield rest
}

/** The cells of one row, which may go over several lines where one of them is in quotes. */
class Cells {
  cells = []
  #cell = ''
  #state = 'start' // of a cell: start, plain, quoted, after (a quote that may be its end)

  constructor(separator, isStrict) {
    this.separator = separator
    this.isStrict = isStrict
  }

  /** Add a line; return whether the row ends with it. */
  add(line) {
    if (this.#state === 'start' && /^[\r\n]*$/.test(line)) return true
    for (let at = 0; at < line.length; at += 1) {
      const char = line[at]
      const isEnd = char === '\n' || char === '\r'
      if (this.#state === 'quoted') {
        if (char === '"') this.#state = 'after'
        else this.#keep(char)
      } else if (this.#state === 'after' && char === '"') {
        this.#keep(char)
        this.#state = 'quoted'
      } else if (isEnd) {
        this.#close()
        return true
      } else if (char === this.separator) {
        this.#close()
      } else if (this.#state === 'start' && char === '"') {
        this.#state = 'quoted'
      } else {
        if (this.#state === 'after' && this.isStrict) throw new Error(`'${this.separator}' expected after '"'`)
        this.#keep(char)
        this.#state = 'plain'
      }
    }
    if (this.#state === 'quoted') return false
    this.#close()
    return true
  }

  /** End what is left open, where that is not held against it. */
  finish() {
    if (this.#state === 'quoted') this.#close()
  }

  #keep(char) {
    this.#cell += char
    if (this.#cell.length > CELL_MAX) throw new Error(`field larger than field limit (${CELL_MAX})`)
  }

  #close() {
    this.cells.push(this.#cell)
    this.#cell = ''
    this.#state = 'start'
  }
}

/** Return the separator and the columns that the first line names. */
function readHeading(heading, columns, refused) {
  if (!/[^ \t\r\n]/.test(heading)) throw refused('is empty')
  let best = []
  for (const separator of SEPARATORS) {
    const parser = new Cells(separator, false)
    parser.add(heading)
    parser.finish()
    const named = parser.cells.map((cell) => cell.replace(/^[ \t\r\n]+|[ \t\r\n]+$/g, '').toLowerCase())
    const isOnce = new Set(named).size === named.length
    if (isOnce && named.every((each) => columns.includes(each)) && columns.every((each) => named.includes(each) || OPTIONAL.includes(each))) {
      return [separator, named]
    }
    if (named.length > best.length) best = named
  }
  const missing = columns.filter((each) => !best.includes(each) && !OPTIONAL.includes(each))
  const unknown = best.filter((each) => !columns.includes(each))
  const twice = [...new Set(best.filter((each, at) => best.indexOf(each) !== at))].sort()
  const said = [
    ...(missing.length ? [`${missing.join(', ')} is missing`] : []),
    ...(unknown.length ? [`${[...unknown.join(', ')].slice(0, 200).join('')} is not known`] : []),
    ...(twice.length ? [`${twice.join(', ')} is there twice`] : [])
  ]
  throw refused(`its first line must name the columns ${columns.join(', ')}: ${said.join('; ')}`)
}
