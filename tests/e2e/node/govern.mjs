// Changes that wait for people: the SDK throws what was answered; two people decide at the same time.

import { attest, client, input, newKey, output, pending, until } from './sdk.mjs'

const { admin, approvers, member, stage } = input
const { auth, permissions, policies, wallets } = client(admin)
const mine = client(member).auth

// New keys start switched off

const account = await auth.createServiceAccount({
  body: { name: 'node-late', publicKey: newKey('Ed25519').publicKey, permissionId: stage.looking },
})
const pat = await mine.createPersonalAccessToken({
  body: { name: 'node-late', publicKey: newKey('Ed25519').publicKey, permissionId: stage.looking },
})
const key = { ...newKey('P-256'), credentialId: 'node-late' }
const { challenge, challengeIdentifier } = await mine.createCredentialChallenge({ body: { kind: 'Key' } })
const credential = await mine.createCredential({
  body: { credentialKind: 'Key', credentialInfo: attest(key, challenge), credentialName: 'late', challengeIdentifier },
})

// Everything that waits

const policyId = stage.loosened
const asked = {
  'POST /v2/policies': await pending(() => policies.createPolicy({ body: stage.opening })),
  'PUT /v2/policies/{policyId}': await pending(() => policies.updatePolicy({ policyId, body: stage.looser })),
  'DELETE /v2/policies/{policyId}': await pending(() => policies.archivePolicy({ policyId: stage.dropped })),
  'PUT /permissions/{permissionId}': await pending(() =>
    permissions.updatePermission({ permissionId: stage.widened, body: { operations: stage.operations } }),
  ),
  'PUT /permissions/{permissionId}/archive': await pending(() =>
    permissions.archivePermission({ permissionId: stage.archived, body: { isArchived: true } }),
  ),
  'POST /permissions/{permissionId}/assignments': await pending(() =>
    permissions.createAssignment({ permissionId: stage.given, body: { identityId: stage.bot } }),
  ),
  'DELETE /permissions/{permissionId}/assignments/{assignmentId}': await pending(() =>
    permissions.deleteAssignment({ permissionId: stage.taken, assignmentId: stage.assignment, query: { force: true } }),
  ),
  'PUT /auth/users/{userId}/activate': await pending(() => auth.activateUser({ userId: stage.newcomer })),
  'PUT /auth/service-accounts/{userId}/activate': await pending(() =>
    auth.activateServiceAccount({ serviceAccountId: account.userInfo.userId }),
  ),
  'PUT /auth/credentials/activate': await pending(() =>
    mine.activateCredential({ body: { credentialUuid: credential.credentialUuid } }),
  ),
  'PUT /auth/pats/{tokenId}/activate': await pending(() => mine.activatePersonalAccessToken({ tokenId: pat.tokenId })),
  'POST /wallets': await pending(() => wallets.createWallet({ body: stage.wallet })),
  'PUT /wallets/{walletId}/tags': await pending(() =>
    wallets.tagWallet({ walletId: stage.untagged, body: { tags: [stage.tag] } }),
  ),
  'DELETE /wallets/{walletId}/tags': await pending(() =>
    wallets.untagWallet({ walletId: stage.escaping, body: { tags: [stage.tag] } }),
  ),
}
const waiting = await policies.getPolicy({ policyId })
const revoking = await permissions.listAssignments({ permissionId: stage.taken })

// Decided: whoever signed over records that somebody else has added to meanwhile signs again

let signedAgain = 0
async function approve(who, approvalId) {
  for (;;) {
    try {
      return await client(who).policies.createApprovalDecision({ approvalId, body: { value: 'Approved' } })
    } catch (error) {
      if (error.context?.body?.error?.code !== 'head_moved') throw error
      signedAgain += 1
    }
  }
}
for (const { request } of Object.values(asked)) {
  await Promise.all(approvers.map((who) => approve(who, request.approvalId)))
}
const decider = client(approvers[0]).policies
const approvals = {}
for (const [call, { request }] of Object.entries(asked)) {
  approvals[call] = await until(`the end of ${call}`, async () => {
    const approval = await decider.getApproval({ approvalId: request.approvalId })
    return approval.activity.changeRequest.status !== 'Pending' && approval
  })
}

output({ account, pat, credential, asked, waiting, revoking, approvals, signedAgain })
