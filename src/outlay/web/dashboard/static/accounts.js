// Service accounts. A key that is made here never leaves the browser but as a file that the reader saves.
import { signed } from './api.js'
import { tellOnce } from './once.js'
import { attempt, refresh } from './page.js'
import './permissions.js'

const form = document.querySelector('#create')

form?.addEventListener('change', () => {
  const isPasted = form.elements.source.value === 'pasted'
  document.querySelector('#pasted').hidden = !isPasted
  form.elements.pem.required = isPasted
})

form?.addEventListener('submit', async (event) => {
  event.preventDefault()
  const went = await attempt(form, async () => {
    const { name, permission, days, source, pem } = form.elements
    const keys = source.value === 'made' ? await makeKey() : { publicKey: pem.value.trim() + '\n' }
    const made = await signed('POST', '/auth/service-accounts', {
      name: name.value.trim(),
      publicKey: keys.publicKey,
      daysValid: Number(days.value),
      ...(permission?.value ? { permissionId: permission.value } : {})
    })
    const { accessToken, credId } = made.accessTokens[0]
    const file = name.value.trim().replace(/[^\w.-]+/g, '-')
    tellOnce({
      title: `${made.userInfo.username} is made`,
      hint: keys.privateKey
        ? 'Save the private key and the token now: neither is shown again, and the server never had the private key.'
        : 'Save the token now: it is not shown again.',
      values: [
        ...(keys.privateKey ? [{ label: `Private key (PKCS#8, ${keys.kind})`, value: keys.privateKey, file: `${file}.pem` }] : []),
        { label: 'Token', value: accessToken, file: `${file}.token` },
        { label: 'Credential id', value: credId }
      ],
      next: made.userInfo.isActive
        ? 'Next: give the program these and the address of this server.'
        : 'It is off: switching it on is what others have to approve. Open it below and switch it on.'
    })
    form.reset()
    form.dispatchEvent(new Event('change'))
  })
  if (went) await refresh()
})

/** Return a new key pair as PEM: Ed25519 where the browser has it, else P-256. */
async function makeKey() {
  let kind = 'Ed25519'
  let pair
  try {
    pair = await crypto.subtle.generateKey({ name: 'Ed25519' }, true, ['sign', 'verify'])
  } catch (error) {
    if (error.name !== 'NotSupportedError') throw error
    kind = 'P-256'
    pair = await crypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, ['sign', 'verify'])
  }
  const [privateKey, publicKey] = await Promise.all([
    crypto.subtle.exportKey('pkcs8', pair.privateKey),
    crypto.subtle.exportKey('spki', pair.publicKey)
  ])
  return { kind, privateKey: pem('PRIVATE KEY', privateKey), publicKey: pem('PUBLIC KEY', publicKey) }
}

function pem(label, bytes) {
  const text = btoa(String.fromCharCode(...new Uint8Array(bytes)))
  return `-----BEGIN ${label}-----\n${text.match(/.{1,64}/g).join('\n')}\n-----END ${label}-----\n`
}
