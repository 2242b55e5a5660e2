// The reader's own passkeys: another one, here or on another device, and ending all sessions.
import { call, signed } from './api.js'
import { joinLink, tellOnce } from './once.js'
import { attempt, refresh, say } from './page.js'
import { create } from './passkey.js'

const HOUR_MS = 3_600_000

document.querySelector('#add').addEventListener('submit', async (event) => {
  event.preventDefault()
  const form = event.target
  const went = await attempt(form, async () => {
    const opened = await call('POST', '/auth/credentials/init', { kind: 'Fido2' })
    const { info, fingerprint } = await create(opened)
    say('The new passkey is made. Now sign with one that you have.')
    const made = await signed('POST', '/auth/credentials', {
      challengeIdentifier: opened.challengeIdentifier,
      credentialName: form.elements.name.value,
      credentialKind: 'Fido2',
      credentialInfo: info
    })
    const state = made.isActive ? 'It is on.' : 'It is off until it is switched on, which others have to approve.'
    say(`The passkey is added. ${state} Its fingerprint: ${fingerprint}`, 'good')
  })
  if (went) {
    form.reset()
    await refresh()
  }
})

document.querySelector('#code').addEventListener('click', async (event) => {
  const button = event.currentTarget
  const went = await attempt(button, async () => {
    const expiration = new Date(Date.now() + HOUR_MS).toISOString()
    const { code } = await signed('POST', '/auth/credentials/code', { expiration })
    tellOnce({
      title: 'Open this on the other device',
      hint: 'The link is shown this once and good for one hour; an older one of yours ends. Give it to nobody.',
      values: [{ label: 'Link', value: joinLink({ code }) }],
      next: 'Next: the new passkey appears below, off. Compare its fingerprint with the one on the other device and switch it on.'
    })
  })
  if (went) await refresh()
})

document.querySelector('#everywhere').addEventListener('click', async (event) => {
  const button = event.currentTarget
  if (!window.confirm('Sign out here and everywhere else?')) return
  await attempt(button, async () => {
    await call('PUT', '/auth/logout', { allSessions: true })
    await call('POST', '/dashboard/sign-out', {}).catch(() => {}) // the session is over: this only takes the cookie
    location.assign('/dashboard/sign-in')
  })
})
