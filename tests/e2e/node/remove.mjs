// Everything that is removed with DELETE: this SDK sends a body with it, `{}` where there is nothing to say.

import { client, input, output } from './sdk.mjs'

const { admin, hookUrl, network, publicKey, userId } = input
const sdk = client(admin)
const name = 'Café Zoë 東京 🏦'

const wallet = await sdk.wallets.createWallet({ body: { network, name, tags: ['one', 'two'] } })
const untagged = await sdk.wallets.untagWallet({ walletId: wallet.id, body: { tags: ['one'] } })
const tagged = await sdk.wallets.tagWallet({ walletId: wallet.id, body: { tags: ['three'] } })
const after = await sdk.wallets.getWallet({ walletId: wallet.id })

const permission = await sdk.permissions.createPermission({ body: { name, operations: ['Wallets:Read'] } })
const assignment = await sdk.permissions.createAssignment({ permissionId: permission.id, body: { identityId: userId } })
await sdk.permissions.deleteAssignment({
  permissionId: permission.id,
  assignmentId: assignment.id,
  query: { force: true },
})
const assignments = await sdk.permissions.listAssignments({ permissionId: permission.id })
const archivedPermission = await sdk.permissions.archivePermission({
  permissionId: permission.id,
  body: { isArchived: true },
})

const policy = await sdk.policies.createPolicy({
  body: {
    name,
    activityKind: 'Wallets:Sign',
    rule: { kind: 'TransactionAmountLimit', configuration: { limit: 12.5, currency: 'USD' } },
    action: { kind: 'Block' },
    filters: { walletId: { in: [wallet.id] } },
  },
})
const archivedPolicy = await sdk.policies.archivePolicy({ policyId: policy.id })

const account = await sdk.auth.createServiceAccount({ body: { name, publicKey } })
const serviceAccountId = account.userInfo.userId
const inactive = await sdk.auth.deactivateServiceAccount({ serviceAccountId })
const archivedAccount = await sdk.auth.archiveServiceAccount({ serviceAccountId })

const webhook = await sdk.webhooks.createWebhook({ body: { url: hookUrl, events: ['*'], description: name } })
const ping = await sdk.webhooks.pingWebhook({ webhookId: webhook.id })
const deleted = await sdk.webhooks.deleteWebhook({ webhookId: webhook.id })
const left = await sdk.webhooks.listWebhooks()

output({
  ...{ name, wallet, untagged, tagged, after, permission, assignments, archivedPermission, policy, archivedPolicy },
  ...{ account, inactive, archivedAccount, webhook, ping, deleted, left },
})
