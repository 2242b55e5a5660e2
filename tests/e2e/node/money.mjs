// Wallets and what leaves them: every call there is.

import { client, input, output, refusal, until } from './sdk.mjs'

const { admin, approver, bot, network, recipient, token, walletId } = input
const { networks, wallets } = client(admin)
const paying = client(bot).wallets
const deciding = client(approver).policies

// Wallets

const made = await wallets.createWallet({ body: { network, name: 'full-node', externalId: 'w-1', tags: ['one'] } })
const renamed = await wallets.updateWallet({ walletId: made.id, body: { name: 'full-node too' } })
const tagged = await wallets.tagWallet({ walletId: made.id, body: { tags: ['two'] } })
const untagged = await wallets.untagWallet({ walletId: made.id, body: { tags: ['one'] } })
const seen = await wallets.getWallet({ walletId: made.id })
const listed = await wallets.listWallets({ query: { limit: 500 } })
const fees = await networks.getFees({ query: { network } })

// Transfers

const pay = (externalId, amount) =>
  paying.transferAsset({ walletId, body: { kind: 'Erc20', contract: token, to: recipient, amount, externalId } })
const ended = ({ id }) =>
  until(`transfer ${id}`, async () => {
    const found = await paying.getTransfer({ walletId, transferId: id })
    return ['Confirmed', 'Failed', 'Rejected'].includes(found.status) && found
  })

const before = await wallets.getWalletAssets({ walletId, query: { netWorth: 'true' } })
const flowing = await pay('full-node-flows', '5000000')
const held = await pay('full-node-waits', '20000000')
const unwanted = await pay('full-node-unwanted', '30000000')
const asked = await deciding.listApprovals({ query: { initiatorId: held.requester.userId, status: 'Pending' } })
const approval = await deciding.getApproval({ approvalId: held.approvalId })
const approved = await deciding.createApprovalDecision({ approvalId: held.approvalId, body: { value: 'Approved' } })
const denied = await deciding.createApprovalDecision({
  approvalId: unwanted.approvalId,
  body: { value: 'Denied', reason: 'paid already' },
})
const late = await refusal(() =>
  deciding.createApprovalDecision({ approvalId: unwanted.approvalId, body: { value: 'Approved' } }),
)
const paid = [await ended(flowing), await ended(held)]
const refused = await ended(unwanted)
const transfers = await paying.listTransfers({ walletId, query: { limit: 2 } })
const history = await paying.getWalletHistory({ walletId, query: { direction: 'Out' } })
const after = await wallets.getWalletAssets({ walletId })

output({
  ...{ made, renamed, tagged, untagged, seen, listed, fees, before, flowing, held, unwanted, asked, approval },
  ...{ approved, denied, late, paid, refused, transfers, history, after },
})
