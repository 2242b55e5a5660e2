// Reads files of payouts with the scripts of the dashboard: cases come as JSON lines, and so do the answers.
import { webcrypto } from 'node:crypto'
import { createInterface } from 'node:readline'
import { pathToFileURL } from 'node:url'

globalThis.crypto ??= webcrypto // as every browser has it; Node 18 does not

const [folder] = process.argv.slice(2)
const { BatchFile, FileRefused } = await import(pathToFileURL(`${folder}/batch_file.js`))
const { RowsDigest } = await import(pathToFileURL(`${folder}/batch_digest.js`))

for await (const line of createInterface({ input: process.stdin })) {
  const { network, assets, chunks, items } = JSON.parse(line)
  const answer = { items: [], refused: null, digest: null }
  const digest = new RowsDigest()
  if (items) {
    for (const item of items) await digest.add(item)
  } else {
    const file = new BatchFile(network, assets)
    try {
      for await (const [row, item] of file.rows(parts(chunks))) {
        answer.items.push([row, item])
        await digest.add(item)
      }
    } catch (error) {
      if (!(error instanceof FileRefused)) throw error
      answer.refused = error.message
    }
    const { count, problems, warnings, lowerCase } = file
    const totals = Object.fromEntries([...file.totals].map(([asset, [number, sum]]) => [asset, [number, String(sum)]]))
    Object.assign(answer, { count, problems, warnings, lowerCase, totals })
  }
  if (digest.count + answer.items.length > 0 || items) answer.digest = await digest.digest()
  process.stdout.write(`${JSON.stringify(answer)}\n`)
}

async function* parts(chunks) {
  for (const each of chunks) yield Uint8Array.from(Buffer.from(each, 'base64'))
}
