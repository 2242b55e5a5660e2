// What passkeys sign and how it goes over the wire. The browser does all the cryptography.

/** Return bytes as base64url without padding. */
export function toText(bytes) {
  let text = ''
  for (const byte of new Uint8Array(bytes)) text += String.fromCharCode(byte)
  return btoa(text).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '')
}

/** Return the bytes of a base64url text. */
export function toBytes(text) {
  const plain = atob(text.replaceAll('-', '+').replaceAll('_', '/'))
  return Uint8Array.from(plain, (char) => char.charCodeAt(0))
}

/** Return the SHA-256 of bytes or of a text's UTF-8, in lower-case hex. */
export async function sha256(content) {
  const bytes = typeof content === 'string' ? new TextEncoder().encode(content) : content
  const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes))
  return [...hash].map((byte) => byte.toString(16).padStart(2, '0')).join('')
}

/** Thrown where the person or the device did not answer. Nothing was sent. */
export class NotSigned extends Error {}

/** Have one of the person's passkeys answer a challenge of the server; return the `firstFactor`. */
export async function answer(opened) {
  const listed = opened.allowCredentials.webauthn
  if (listed.length === 0) throw new NotSigned('You have no passkey here yet: register one first.')
  const credential = await asked(() =>
    navigator.credentials.get({
      publicKey: {
        challenge: toBytes(opened.challenge),
        rpId: opened.rp.id,
        userVerification: 'required',
        allowCredentials: listed.map(({ id }) => ({ type: 'public-key', id: toBytes(id) })),
        timeout: 120_000
      }
    })
  )
  const { authenticatorData, clientDataJSON, signature, userHandle } = credential.response
  return {
    kind: 'Fido2',
    credentialAssertion: {
      credId: toText(credential.rawId),
      clientData: toText(clientDataJSON),
      authenticatorData: toText(authenticatorData),
      signature: toText(signature),
      ...(userHandle?.byteLength ? { userHandle: toText(userHandle) } : {})
    }
  }
}

/** Make a new passkey for a registration challenge; return the `credentialInfo`, and the key's fingerprint. */
export async function create(opened) {
  const credential = await asked(() =>
    navigator.credentials.create({
      publicKey: {
        challenge: toBytes(opened.challenge),
        rp: opened.rp,
        user: {
          id: new TextEncoder().encode(opened.user.id),
          name: opened.user.name,
          displayName: opened.user.displayName ?? opened.user.name
        },
        pubKeyCredParams: opened.pubKeyCredParams.filter(({ alg }) => [-7, -8, -257].includes(alg)),
        authenticatorSelection: opened.authenticatorSelection,
        excludeCredentials: (opened.excludeCredentials ?? []).map(({ id }) => ({ type: 'public-key', id: toBytes(id) })),
        attestation: 'none',
        timeout: 120_000
      }
    })
  )
  const spki = credential.response.getPublicKey()
  return {
    info: {
      credId: toText(credential.rawId),
      clientData: toText(credential.response.clientDataJSON),
      attestationData: toText(credential.response.attestationObject)
    },
    fingerprint: spki === null ? '' : await sha256(spki)
  }
}

async function asked(ask) {
  if (!window.PublicKeyCredential) throw new NotSigned('This browser cannot use passkeys here: open the page over https.')
  try {
    return await ask()
  } catch (error) {
    if (error.name === 'InvalidStateError') throw new NotSigned('This device has a passkey of yours already.')
    if (error.name === 'SecurityError') throw new NotSigned('Passkeys do not belong to this address: open the server by its own name.')
    if (['NotAllowedError', 'AbortError'].includes(error.name)) {
      throw new NotSigned('Nothing was signed: it was canceled, or took too long, or no passkey of yours is on this device.')
    }
    throw error
  }
}
