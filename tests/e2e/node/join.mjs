// A person joins with a key, logs in, looks, and logs out. The SDK's key signer cannot register keys, so `create`
// is written here from the contract, in another language than the server.

import { createHash, createPublicKey, sign } from 'node:crypto'
import { AsymmetricKeySigner, BaseAuthApi, client, DfnsAuthenticator, input, output, refusal } from './sdk.mjs'

const { person, wrongOrgId } = input
const base64url = (text) => Buffer.from(text).toString('base64url')

class JoiningSigner extends AsymmetricKeySigner {
  async create({ challenge }) {
    const publicKey = createPublicKey(person.privateKey).export({ type: 'spki', format: 'pem' })
    const clientData = JSON.stringify({ challenge, type: 'key.create' })
    const clientDataHash = createHash('sha256').update(clientData).digest('hex')
    const signature = sign(undefined, Buffer.from(JSON.stringify({ clientDataHash, publicKey })), person.privateKey)
    const attestation = JSON.stringify({ publicKey, signature: signature.toString('hex') })
    return {
      credentialKind: 'Key',
      credentialInfo: {
        credId: person.credentialId,
        clientData: base64url(clientData),
        attestationData: base64url(attestation),
      },
    }
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
