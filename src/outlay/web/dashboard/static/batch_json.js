// Rows of JSON: a list of objects, or objects one after the other (JSON lines).

const OPTIONAL = ['memo']
const LINE_MAX = 64 * 1024
const BLANK = /[ \t\r\n]*/y

/** Yield the number of each row and its cells by column, or what is wrong with it. `refused` makes what is thrown. */
export async function* jsonRows(texts, columns, refused) {
  const rest = new Rest(texts)
  const isArray = (await rest.next()) === '['
  if (isArray) rest.take()
  for (let number = 1; ; number += 1) {
    const found = await rest.next()
    if (isArray && number > 1 && found === ',') rest.take()
    else if (found === (isArray ? ']' : '')) break
    else if (isArray && number > 1) {
      throw refused(`${found ? 'has no comma after' : 'ends after'} object ${number - 1}`)
    }
    if ((await rest.next()) !== '{') throw refused(`is no list of objects: see object ${number}`)
    const text = await rest.object()
    let value
    try {
      value = JSON.parse(text ?? '')
    } catch {
      throw refused(`is no JSON from object ${number} on`)
    }
    yield [number, cellsOf(value, namesIn(text), columns)]
  }
  if (isArray) {
    rest.take()
    if (await rest.next()) throw refused('goes on after the end of its list')
  }
}

/** What is left of a text of JSON. */
class Rest {
  #texts
  #text = ''
  #at = 0

  constructor(texts) {
    this.#texts = texts
  }

  async #more() {
    const { value, done } = await this.#texts.next()
    if (done) return false
    this.#text = this.#text.slice(this.#at) + value
    this.#at = 0
    return true
  }

  /** Return the next character that is not blank; empty at the end. */
  async next() {
    while (true) {
      BLANK.lastIndex = this.#at
      BLANK.exec(this.#text)
      this.#at = BLANK.lastIndex
      if (this.#at < this.#text.length) return this.#text[this.#at]
      if (!(await this.#more())) return ''
    }
  }

  take() {
    this.#at += 1
  }

  /** Return the text of the object that begins here; null where it has no end. */
  async object() {
    while (true) {
      const end = endOf(this.#text, this.#at)
      if (end !== null) {
        const text = this.#text.slice(this.#at, end)
        this.#at = end
        return text
      }
      if (this.#text.length - this.#at > LINE_MAX || !(await this.#more())) return null
    }
  }
}

/** Return where the object ends that begins at a place; null if it does not. */
function endOf(text, at) {
  let depth = 0
  let isQuoted = false
  for (let place = at; place < text.length; place += 1) {
    const char = text[place]
    if (isQuoted) {
      if (char === '\\') place += 1
      else if (char === '"') isQuoted = false
    } else if (char === '"') isQuoted = true
    else if (char === '{' || char === '[') depth += 1
    else if (char === '}' || char === ']') {
      depth -= 1
      if (depth === 0) return place + 1
    }
  }
  return null
}

/** Return the names of an object's members in the text of it, those that are there twice too. */
function namesIn(text) {
  const names = []
  let depth = 0
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"(?:[ \t\r\n]*:)?|[{}[\]]/gs)) {
    if (token === '{' || token === '[') depth += 1
    else if (token === '}' || token === ']') depth -= 1
    else if (depth === 1 && token.endsWith(':')) names.push(JSON.parse(token.slice(0, token.lastIndexOf('"') + 1)))
  }
  return names
}

/** Return the cells of an object, or what is wrong with it. */
function cellsOf(value, names, columns) {
  if (new Set(names).size !== names.length || names.includes('')) return 'names a member twice, or one without a name'
  const given = names.filter((name) => value[name] !== null)
  const cells = new Map(given.map((name) => [name.toLowerCase(), value[name]]))
  const unknown = [...cells.keys()].filter((name) => !columns.includes(name)).sort()
  if (unknown.length) return `has members that are not known: ${[...unknown.join(', ')].slice(0, 200).join('')}`
  if (cells.size !== given.length) return 'names a member twice'
  for (const [name, cell] of cells) {
    if (typeof cell === 'number') return `${name} is a number, which programs round: put it in quotes`
    if (typeof cell !== 'string') return `${name} is no text`
  }
  const missing = columns.filter((each) => !cells.has(each) && !OPTIONAL.includes(each))
  return missing.length ? `${missing.join(', ')} is missing` : cells
}
