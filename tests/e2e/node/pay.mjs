// Payouts as service accounts with each kind of key, a held one approved by a person, a conflict and a refusal.

import { client, input, output, refusal, until } from './sdk.mjs'

const { approver, cappedWallet, freeWallet, payers, recipient, token, watchedWallet } = input
const ended = async (sdk, walletId, transferId) =>
  until(`transfer ${transferId}`, async () => {
    const seen = await sdk.wallets.getTransfer({ walletId, transferId })
    return ['Confirmed', 'Failed', 'Rejected'].includes(seen.status) && seen
  })

const paid = []
for (const [kind, payer] of Object.entries(payers)) {
  const sdk = client(payer)
  const body = { kind: 'Erc20', contract: token, to: recipient, amount: '1250000', externalId: `node-${kind}` }
  const asked = await sdk.wallets.transferAsset({ walletId: freeWallet, body })
  const confirmed = await ended(sdk, freeWallet, asked.id)
  const again = await sdk.wallets.transferAsset({ walletId: freeWallet, body })
  paid.push({ kind, body, asked, confirmed, again })
}

const bot = client(Object.values(payers)[0])
const first = paid[0]
const conflict = await refusal(() =>
  bot.wallets.transferAsset({ walletId: freeWallet, body: { ...first.body, amount: '1250001' } }),
)
const forbidden = await refusal(() => bot.wallets.createWallet({ body: { network: first.asked.network } }))
const pages = []
for (let paginationToken; pages.length === 0 || paginationToken; ) {
  const page = await bot.wallets.listTransfers({ walletId: freeWallet, query: { limit: 3, paginationToken } })
  pages.push(page)
  paginationToken = page.nextPageToken
}

const body = { kind: 'Native', to: recipient, amount: '1000000000000000', externalId: 'node-held' }
const held = await bot.wallets.transferAsset({ walletId: watchedWallet, body })
const person = client(approver)
const pending = await person.policies.listApprovals({ query: { status: 'Pending', initiatorId: held.requester.userId } })
const approval = await person.policies.getApproval({ approvalId: held.approvalId })
const decided = await person.policies.createApprovalDecision({
  approvalId: held.approvalId,
  body: { value: 'Approved', reason: 'vérifié, 確認済み 🏦' },
})
const twice = await refusal(() =>
  person.policies.createApprovalDecision({ approvalId: held.approvalId, body: { value: 'Denied' } }),
)
const released = await ended(bot, watchedWallet, held.id)
const blocked = await bot.wallets.transferAsset({
  walletId: cappedWallet,
  body: { kind: 'Erc20', contract: token, to: recipient, amount: '1000001', externalId: 'node-blocked' },
})
output({ paid, conflict, forbidden, pages, held, pending, approval, decided, twice, released, blocked })
