// The delegated client: signing happens elsewhere, between two halves of a call. Its first half signs the query too.

import { client, DfnsDelegatedApiClient, input, output, signer } from './sdk.mjs'

const { admin, bot, recipient, userId, walletId } = input
const delegated = (who) =>
  new DfnsDelegatedApiClient({ baseUrl: input.url, orgId: input.orgId, authToken: who.token })
const answer = async (who, challenge) => ({
  challengeIdentifier: challenge.challengeIdentifier,
  firstFactor: await signer(who).sign(challenge),
})

const body = { kind: 'Native', to: recipient, amount: '1', externalId: 'node-delegated' }
const opened = await delegated(bot).wallets.transferAssetInit({ walletId, body })
const asked = await delegated(bot).wallets.transferAssetComplete({ walletId, body }, await answer(bot, opened))

const permission = await client(admin).permissions.createPermission({
  body: { name: 'Delegated', operations: ['Wallets:Read'] },
})
const permissionId = permission.id
const { id } = await client(admin).permissions.createAssignment({ permissionId, body: { identityId: userId } })
const request = { permissionId, assignmentId: id, query: { force: true } }
const revoking = await delegated(admin).permissions.deleteAssignmentInit(request)
await delegated(admin).permissions.deleteAssignmentComplete(request, await answer(admin, revoking))
const assignments = await client(admin).permissions.listAssignments({ permissionId })

output({ asked, assignments })
