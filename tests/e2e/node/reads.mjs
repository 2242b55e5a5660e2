// What is read from the chain and of the past, as the JavaScript SDK shows it.

import { client, input, output, refusal } from './sdk.mjs'

const { admin, network, token, walletId } = input
const { networks, wallets } = client(admin)

const assets = await wallets.getWalletAssets({ walletId, query: { netWorth: 'true' } })
const history = await wallets.getWalletHistory({ walletId, query: { direction: 'Out', limit: 1, contract: token } })
const fees = await networks.getFees({ query: { network } })
const unknown = await refusal(() => networks.getFees({ query: { network: 'Solana' } }))

output({ assets, fees, history, unknown })
