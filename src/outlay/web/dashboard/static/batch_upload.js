// A file of payouts between this page and the server: read, checked, uploaded. Each time it is read anew from the disk,
// a part at a time, so that a long one takes little memory and the page goes on answering.
import { Refused, call } from './api.js'
import { BatchFile } from './batch_file.js'
import { RowsDigest, pause } from './batch_digest.js'

const PART = 64 * 1024
const ROWS_AT_ONCE = 1000
const PATIENCE = 6 // tries of one upload

/** Yield the bytes of a chosen file; `moved` is told how far it is, from 0 to 1. */
async function* parts(chosen, moved) {
  for (let at = 0; at < chosen.size; at += PART) {
    yield new Uint8Array(await chosen.slice(at, at + PART).arrayBuffer())
    moved(Math.min(1, (at + PART) / chosen.size))
    await pause()
  }
}

/** Read a whole file; return what was found, the digest of its good rows and their number. */
export async function readWhole(chosen, network, assets, moved) {
  const file = new BatchFile(network, assets)
  const rows = new RowsDigest()
  for await (const [, item] of file.rows(parts(chosen, moved))) await rows.add(item)
  await rows.finish()
  return { file, count: rows.count, digest: rows.count ? await rows.digest() : '' }
}

/** Yield the good rows of a file, up to 1,000 at a time: their numbers and items. */
async function* thousands(chosen, network, assets, moved) {
  let some = []
  for await (const each of new BatchFile(network, assets).rows(parts(chosen, moved))) {
    some.push(each)
    if (some.length === ROWS_AT_ONCE) {
      yield some
      some = []
    }
  }
  if (some.length) yield some
}

/**
 * Ask the server what would become of each row; nothing is stored.
 * `payer`: `{walletId}` or `{poolId}`. Return the totals of what is new, how many rows were asked for before, and what is wrong.
 */
export async function checkAll(chosen, network, assets, payer, moved) {
  const totals = new Map()
  const problems = []
  let same = 0
  for await (const some of thousands(chosen, network, assets, moved)) {
    const answer = await call('POST', '/v1/batches/check', { ...payer, rows: some.map(([, item]) => item) })
    for (const each of answer.rows) {
      const [row, item] = some[each.index]
      if (each.result === 'same') same += 1
      else if (each.result === 'conflict') {
        problems.push({ row, column: 'reference', reason: `${item.externalId} was paid before with another content, or by somebody else` })
      } else if (each.result === 'refused') {
        problems.push({ row, column: each.error.details?.field ?? 'row', reason: each.error.message })
      }
    }
    for (const each of answer.totals) {
      const sum = totals.get(each.asset) ?? { ...each, count: 0, amount: 0n, value: 0n }
      sum.count += each.count
      sum.amount += BigInt(each.amount)
      // In 10^-8 dollars; unknown of one part is unknown of all.
      sum.value = sum.value === null || each.valueUsd === undefined ? null : sum.value + BigInt(each.valueUsd.replace('.', ''))
      totals.set(each.asset, sum)
    }
  }
  return { totals: [...totals.values()], same, problems }
}

/** Upload the rows of a file that are not there yet; return the batch as it is then. */
export async function uploadAll(chosen, network, assets, batch, moved) {
  let first = 0
  let standing = batch
  for await (const some of thousands(chosen, network, assets, () => {})) {
    const from = first
    first += some.length
    if (first <= standing.uploaded || standing.state !== 'uploading') continue
    standing = await persistently(() =>
      call('PUT', `/v1/batches/${batch.id}/rows`, { from, rows: some.map(([, item]) => item) })
    )
    moved(standing.uploaded / standing.count)
  }
  return standing
}

/** Try again what got no answer: rows that are there already are passed over. */
async function persistently(send) {
  for (let tried = 1; ; tried += 1) {
    try {
      return await send()
    } catch (error) {
      const mayPass = error instanceof Refused && (error.status === 0 || error.status === 429 || error.status >= 500)
      if (!mayPass || tried >= PATIENCE) throw error
      await new Promise((resolve) => setTimeout(resolve, 500 * 2 ** tried * (0.5 + Math.random() / 2)))
    }
  }
}
