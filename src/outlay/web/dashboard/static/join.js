// Registering a passkey with a code. The code stands behind the # of the address: browsers keep that to themselves.
import { call } from './api.js'
import { attempt } from './page.js'
import { create } from './passkey.js'

const form = document.querySelector('#join')
const given = new URLSearchParams(location.hash.slice(1))
history.replaceState(null, '', location.pathname)
form.code.value = given.get('code') ?? ''
form.username.value = given.get('username') ?? ''
// A code of somebody who is in already (another device, or a recovery) stands for its person by itself.
const isInvitation = given.has('username') || !given.has('code')
document.querySelector('#who').hidden = !isInvitation
form.username.required = isInvitation

form.addEventListener('submit', async (event) => {
  event.preventDefault()
  await attempt(form, async () => {
    const { fingerprint, next } = isInvitation ? await takeUp() : await add()
    document.querySelector('#fingerprint').textContent = fingerprint
    document.querySelector('#joined-next').textContent = next
    document.querySelector('#joined').hidden = false
    form.hidden = true
    document.querySelector('#joined').scrollIntoView()
  })
})

async function takeUp() {
  const username = form.username.value.trim()
  const opened = await call('POST', '/auth/registration/init', { username, registrationCode: form.code.value.trim() })
  const { info, fingerprint } = await create(opened)
  await call(
    'POST',
    '/auth/registration',
    { firstFactorCredential: { credentialKind: 'Fido2', credentialInfo: info, credentialName: form.elements.name.value } },
    { authorization: `Bearer ${opened.temporaryAuthenticationToken}` }
  )
  localStorage.setItem('outlay.username', username)
  return { fingerprint, next: 'You can sign in. Your approvals count once an admin has let this key in.' }
}

async function add() {
  const opened = await call('POST', '/auth/credentials/code/init', { code: form.code.value.trim(), credentialKind: 'Fido2' })
  const { info, fingerprint } = await create(opened)
  await call('POST', '/auth/credentials/code/verify', {
    challengeIdentifier: opened.challengeIdentifier,
    credentialName: form.elements.name.value,
    credentialKind: 'Fido2',
    credentialInfo: info
  })
  return { fingerprint, next: 'It signs nothing yet: it is switched on with an older key of yours, or by those who let you back in.' }
}
