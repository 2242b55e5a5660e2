// A person joins with a key, logs in, looks, and logs out.

import { AsymmetricKeySigner, BaseAuthApi, attest, client, DfnsAuthenticator, input, output, refusal } from './sdk.mjs'

const { person, wrongOrgId } = input

class JoiningSigner extends AsymmetricKeySigner {
  async create({ challenge }) {
    return { credentialKind: 'Key', credentialInfo: attest(person, challenge) }
  }
}

const authenticator = new DfnsAuthenticator({
  baseUrl: input.url,
  signer: new JoiningSigner({ credId: person.credentialId, privateKey: person.privateKey }),
})
const registered = await authenticator.register({
  orgId: input.orgId,
  username: person.username,
  registrationCode: person.code,
})
const { token } = await authenticator.login({ orgId: input.orgId, username: person.username })
const options = { baseUrl: input.url, authToken: token }
const credentials = await client({ ...person, token }).auth.listCredentials()
const foreign = await refusal(() => client({ ...person, token }, wrongOrgId).auth.listCredentials())
const unlisted = await refusal(() =>
  client({ ...person, token, credentialId: 'another' }).permissions.createPermission({
    body: { name: 'never', operations: ['Wallets:Read'] },
  }),
)
const loggedOut = await BaseAuthApi.userLogout(options)
const afterwards = await refusal(() => client({ ...person, token }).auth.listCredentials())
output({ registered, token, credentials, foreign, unlisted, loggedOut, afterwards })
