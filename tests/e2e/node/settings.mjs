// Permissions and policies: every call there is, a rule of every kind with every action, and webhooks.

import { client, input, output, refusal, until } from './sdk.mjs'

const { admin, bot, hookUrl, network, policies: bodies, userId } = input
const sdk = client(admin)

// Permissions

const create = { name: 'full-node: changed', operations: ['Wallets:Read'] }
const made = await sdk.permissions.createPermission({ body: create })
const permissionId = made.id
const changed = await sdk.permissions.updatePermission({
  permissionId,
  body: { operations: ['Policies:Read', 'Wallets:Read'] },
})
const seen = await sdk.permissions.getPermission({ permissionId })
const listed = await sdk.permissions.listPermissions({ query: { limit: 500 } })
const assigned = await sdk.permissions.createAssignment({ permissionId, body: { identityId: userId } })
const assignments = await sdk.permissions.listAssignments({ permissionId })
const whileHeld = await client(bot).policies.listPolicies()
const revoked = await sdk.permissions.deleteAssignment({
  permissionId,
  assignmentId: assigned.id,
  query: { force: true },
})
const afterwards = await refusal(() => client(bot).policies.listPolicies())
const archived = await sdk.permissions.archivePermission({ permissionId, body: { isArchived: true } })
const permission = { made, changed, seen, listed, assigned, assignments, whileHeld, revoked, afterwards, archived }

// Policies: each body of one policy replaces the one before it

const policies = []
for (const [body, ...others] of bodies) {
  const answers = [await sdk.policies.createPolicy({ body })]
  const policyId = answers[0].id
  for (const other of others) answers.push(await sdk.policies.updatePolicy({ policyId, body: other }))
  const read = await sdk.policies.getPolicy({ policyId })
  const active = await sdk.policies.listPolicies({ query: { status: 'Active', limit: 500 } })
  const gone = await sdk.policies.archivePolicy({ policyId })
  policies.push({ answers, read, active, gone })
}

// Webhooks

const webhook = await sdk.webhooks.createWebhook({ body: { url: hookUrl, events: ['wallet.created'] } })
const webhookId = webhook.id
const read = await sdk.webhooks.getWebhook({ webhookId })
const hooks = await sdk.webhooks.listWebhooks({ query: { limit: 500 } })
const ping = await sdk.webhooks.pingWebhook({ webhookId })
const wallet = await sdk.wallets.createWallet({ body: { network, name: 'full-node' } })
const events = await until('the delivery of the event', async () => {
  const found = await sdk.webhooks.listWebhookEvents({ webhookId, query: { kind: 'wallet.created' } })
  return found.items.some((each) => each.data.wallet.id === wallet.id) && found
})
const event = await sdk.webhooks.getWebhookEvent({ webhookId, webhookEventId: events.items[0].id })
const disabled = await sdk.webhooks.updateWebhook({ webhookId, body: { status: 'Disabled' } })
const deleted = await sdk.webhooks.deleteWebhook({ webhookId })
const webhooks = { webhook, read, hooks, ping, wallet, events, event, disabled, deleted }

output({ permission, policies, webhooks })
