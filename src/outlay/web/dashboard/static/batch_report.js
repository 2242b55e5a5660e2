// What is shown of a chosen file: how far the reading is, what is wrong with which row, and what it all comes to.

const SHOWN_MAX = 200

/** Show which step runs, and how far it is from 0 to 1; null ends it. */
export function step(text, done = 0) {
  document.querySelector('#reading').hidden = text === null
  if (text === null) return
  document.querySelector('#step').textContent = text
  document.querySelector('#progress').value = done
}

/** Return what shows how far a step is, at most a few times a second. */
export function meter(text) {
  let last = 0
  step(text)
  return (done) => {
    const now = performance.now()
    if (now < last + 100 && done < 1) return
    last = now
    step(`${text}: ${Math.floor(done * 100)} %`, done)
  }
}

/** Show the report. `tables`: of each its title, its rows and whether they are what hinders. */
export function showReport({ title, lead, totals = [], tables = [] }) {
  document.querySelector('#report-title').textContent = title
  document.querySelector('#report-lead').textContent = lead
  document.querySelector('#report-totals').replaceChildren(...(totals.length ? [totalsTable(totals)] : []))
  document.querySelector('#report-problems').replaceChildren(...tables.filter(({ rows }) => rows.length).flatMap(problemsTable))
  const report = document.querySelector('#report')
  report.hidden = false
  report.focus()
}

export function hideReport() {
  document.querySelector('#report').hidden = true
}

function totalsTable(totals) {
  const rows = totals.map(({ symbol, asset, decimals, count, amount, value }) => [
    symbol ?? asset,
    count.toLocaleString('en'),
    decimals === undefined ? `${amount} base units` : `${units(amount, decimals)} ${symbol ?? ''}`,
    value === null ? 'no price' : dollars(value)
  ])
  return table('What is new in it', ['Asset', 'Payouts', 'Sum', 'Worth'], rows)
}

function problemsTable({ title, rows, file }) {
  const shown = rows.slice(0, SHOWN_MAX).map(({ row, column, reason }) => [String(row), column, reason])
  const parts = [table(`${title}: ${rows.length.toLocaleString('en')}`, ['Row', 'Column', 'What is wrong'], shown)]
  if (rows.length > SHOWN_MAX) {
    const more = document.createElement('p')
    more.className = 'hint'
    more.textContent = `These are the first ${SHOWN_MAX}. All of them are in the file below.`
    parts.push(more)
  }
  const save = document.createElement('a')
  save.className = 'button'
  save.download = file
  save.href = URL.createObjectURL(new Blob([csv(rows)], { type: 'text/csv' }))
  save.textContent = 'Download all'
  parts.push(save)
  return parts
}

function table(caption, heads, rows) {
  const made = document.createElement('table')
  made.className = 'cards-on-phone'
  made.createCaption().textContent = caption
  const head = made.createTHead().insertRow()
  for (const each of heads) {
    const cell = document.createElement('th')
    cell.scope = 'col'
    cell.textContent = each
    head.append(cell)
  }
  const body = made.createTBody()
  for (const cells of rows) {
    const line = body.insertRow()
    for (const [at, text] of cells.entries()) {
      const cell = line.insertCell()
      cell.dataset.label = heads[at]
      cell.className = 'address'
      cell.textContent = text
    }
  }
  return made
}

/** Return lines of a spreadsheet, no cell of which is taken for a formula. */
function csv(rows) {
  const cell = (value) => {
    const text = String(value)
    const harmless = /^[ \u00a0\ufeff\0]*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/.test(text) ? `'${text}` : text
    return `"${harmless.replaceAll('"', '""')}"`
  }
  const lines = rows.map(({ row, column, reason }) => [row, column, reason].map(cell).join(','))
  return `row,column,reason\r\n${lines.map((each) => `${each}\r\n`).join('')}`
}

/** Return base units with their decimals and groups of three. */
function units(amount, decimals) {
  const text = amount.toString().padStart(decimals + 1, '0')
  const whole = BigInt(text.slice(0, text.length - decimals)).toLocaleString('en')
  const part = text.slice(text.length - decimals).replace(/0+$/, '')
  return part === '' ? whole : `${whole}.${part}`
}

/** Return 10^-8 dollars in dollars and cents, rounded up as limits are. */
function dollars(value) {
  const cents = (value + 999_999n) / 1_000_000n
  return `$${(cents / 100n).toLocaleString('en')}.${String(cents % 100n).padStart(2, '0')}`
}
