// People, their keys and tokens, and service accounts: every call there is, with every kind of key.

import { attest, client, DfnsApiClient, input, keyKinds, newKey, output, refusal, signer } from './sdk.mjs'

const { admin, orgId } = input
const { auth, permissions } = client(admin)
const anonymous = new DfnsApiClient({ baseUrl: input.url }).auth
const username = 'full-node@people.example'

// A session's client, opened with the person's key.
async function logIn(who) {
  const begun = await anonymous.createLoginChallenge({ body: { username, orgId } })
  const firstFactor = await signer(who).sign(begun)
  const { token } = await anonymous.login({ body: { challengeIdentifier: begun.challengeIdentifier, firstFactor } })
  return { ...who, token }
}

// Joining and leaving

const { userId, registrationCode } = await auth.createUser({ body: { email: username, kind: 'CustomerEmployee' } })
const opened = await anonymous.createRegistrationChallenge({ body: { orgId, username, registrationCode } })
const first = { ...newKey('P-256'), credentialId: 'the first key' }
const registered = await new DfnsApiClient({
  baseUrl: input.url,
  authToken: opened.temporaryAuthenticationToken,
}).auth.register({
  body: {
    firstFactorCredential: {
      credentialKind: 'Key',
      credentialInfo: attest(first, opened.challenge),
      credentialName: 'first',
    },
  },
})
const vouched = await auth.activateUser({ userId })
const everybody = await auth.listUsers({ query: { limit: 500, kind: 'CustomerEmployee' } })
const endUsers = await auth.listUsers({ query: { kind: 'EndUser' } })
let who = await logIn(first)

// Keys: each one withdraws the one before it

const credentials = []
for (const kind of keyKinds) {
  const before = await client(who).auth.listCredentials()
  const old = before.items.find((each) => each.credentialId === who.credentialId)
  const challenge = await client(who).auth.createCredentialChallenge({ body: { kind: 'Key' } })
  const next = { ...newKey(kind), credentialId: `a key of kind ${kind}` }
  const made = await client(who).auth.createCredential({
    body: {
      credentialKind: 'Key',
      credentialInfo: attest(next, challenge.challenge),
      credentialName: kind,
      challengeIdentifier: challenge.challengeIdentifier,
    },
  })
  who = await logIn(next)
  const mine = client(who).auth
  const body = { credentialUuid: old.credentialUuid }
  const off = await mine.deactivateCredential({ body })
  const on = await mine.activateCredential({ body })
  await mine.deactivateCredential({ body })
  credentials.push({ kind, challenge, made, off, on, after: await mine.listCredentials() })
}

// A key from a place where none of the person's is, with a code; another of theirs switches it on

const owner = client(who).auth
const withCode = await owner.createCredentialCode({ body: { expiration: Math.floor(Date.now() / 1000) + 600 } })
const elsewhere = await anonymous.createCredentialChallengeWithCode({ body: { credentialKind: 'Key', code: withCode.code } })
const device = { ...newKey('P-256'), credentialId: 'another device' }
const onDevice = await anonymous.createCredentialWithCode({
  body: {
    credentialKind: 'Key',
    credentialInfo: attest(device, elsewhere.challenge),
    credentialName: 'another device',
    challengeIdentifier: elsewhere.challengeIdentifier,
  },
})
const switchedOn = await owner.activateCredential({ body: { credentialUuid: onDevice.credentialUuid } })
await owner.deactivateCredential({ body: { credentialUuid: onDevice.credentialUuid } })

// Personal access tokens

const operations = ['Auth:Pats:Create', 'Permissions:Read', 'Wallets:Read', 'Wallets:Update']
const held = await permissions.createPermission({ body: { name: 'full-node: person', operations } })
await permissions.createAssignment({ permissionId: held.id, body: { identityId: userId } })
const mine = client(who).auth
const tokens = []
for (const kind of keyKinds) {
  const { privateKey, publicKey } = newKey(kind)
  const made = await mine.createPersonalAccessToken({ body: { name: kind, publicKey, secondsValid: 600 } })
  const { tokenId } = made
  const program = client({ token: made.accessToken, credentialId: made.credId, privateKey })
  const renamed = await program.wallets.updateWallet({ walletId: input.walletId, body: { name: `node ${kind}` } })
  const forbidden = await refusal(() => program.auth.createCredentialChallenge({ body: { kind: 'Key' } }))
  const seen = await mine.getPersonalAccessToken({ tokenId })
  const listed = await mine.listPersonalAccessTokens()
  const updated = await mine.updatePersonalAccessToken({ tokenId, body: { name: `${kind} again` } })
  const off = await mine.deactivatePersonalAccessToken({ tokenId })
  const whileOff = await refusal(() => program.wallets.listWallets())
  const on = await mine.activatePersonalAccessToken({ tokenId })
  const whileOn = await program.wallets.listWallets({ query: { limit: 1 } })
  const gone = await mine.archivePersonalAccessToken({ tokenId })
  const afterwards = await refusal(() => program.wallets.listWallets())
  const left = await mine.listPersonalAccessTokens()
  tokens.push({
    ...{ kind, made, renamed, forbidden, seen, listed, updated, off, whileOff, on, whileOn, gone, afterwards, left },
  })
}

const loggedOut = await mine.logout({ body: { allSessions: true } })
const afterLogout = await refusal(() => mine.listCredentials())
const deactivated = await auth.deactivateUser({ userId })
const seen = await auth.getUser({ userId })
const removed = await auth.archiveUser({ userId })
const remaining = await auth.listUsers({ query: { limit: 500 } })

// Service accounts

const accounts = []
for (const kind of keyKinds) {
  const { privateKey, publicKey } = newKey(kind)
  const body = { name: `full-node ${kind}`, publicKey, permissionId: held.id, externalId: 'n-1', daysValid: 2 }
  const made = await auth.createServiceAccount({ body })
  const serviceAccountId = made.userInfo.userId
  const [token] = made.accessTokens
  const bot = client({ token: token.accessToken, credentialId: token.credId, privateKey })
  const renamed = await bot.wallets.updateWallet({ walletId: input.walletId, body: { name: `bot ${kind}` } })
  const read = await auth.getServiceAccount({ serviceAccountId })
  const listed = await auth.listServiceAccounts()
  const updated = await auth.updateServiceAccount({ serviceAccountId, body: { name: `full-node ${kind} again` } })
  const off = await auth.deactivateServiceAccount({ serviceAccountId })
  const whileOff = await refusal(() => bot.wallets.listWallets())
  const on = await auth.activateServiceAccount({ serviceAccountId })
  const whileOn = await bot.wallets.listWallets({ query: { limit: 1 } })
  const gone = await auth.archiveServiceAccount({ serviceAccountId })
  const afterwards = await refusal(() => bot.wallets.listWallets())
  accounts.push({ kind, made, renamed, read, listed, updated, off, whileOff, on, whileOn, gone, afterwards })
}

output({
  ...{ userId, opened, registered, vouched, everybody, endUsers, credentials, heldId: held.id, tokens, onDevice, switchedOn },
  ...{ loggedOut, afterLogout, deactivated, seen, removed, remaining, accounts },
})
