// Canceling what was sent and is in no block yet. This SDK has no call for speeding up.

import { client, input, output, refusal, until } from './sdk.mjs'

const { bot, recipient, walletId } = input
const { wallets } = client(bot)

const paid = await wallets.transferAsset({
  walletId,
  body: { kind: 'Native', to: recipient, amount: '7', externalId: 'full-node-replaced' },
})
const transferId = paid.id
const sent = await until('the payout to be sent', async () => {
  const found = await wallets.getTransfer({ walletId, transferId })
  return found.status === 'Broadcasted' && found
})
const void_ = await wallets.cancelTransfer({ walletId, transferId })
const again = await wallets.cancelTransfer({ walletId, transferId })
const unknown = await refusal(() => wallets.cancelTransfer({ walletId, transferId: walletId.replace('wa-', 'xfr-') }))
const seen = await until('the void to be sent', async () => {
  const found = await wallets.getTransfer({ walletId, transferId })
  return found.details.attempts.at(-1).dateBroadcasted && found
})

output({ paid, sent, void: void_, again, unknown, seen })
