// Inviting people, and giving somebody who lost all keys a way back in.
import { signed } from './api.js'
import { joinLink, tellOnce } from './once.js'
import { attempt, refresh } from './page.js'
import './permissions.js'

document.querySelector('#invite')?.addEventListener('submit', async (event) => {
  event.preventDefault()
  const form = event.target
  const went = await attempt(form, async () => {
    const email = form.elements.email.value.trim()
    const made = await signed('POST', '/auth/users', { email, kind: 'CustomerEmployee' })
    tellOnce({
      title: `${email} is invited`,
      hint: 'Hand this link to them, and to nobody else: whoever opens it first registers the key. It is shown this once and good for seven days.',
      values: [{ label: 'Link', value: joinLink({ username: email, code: made.registrationCode }) }],
      next: 'Next: they register a passkey and read its fingerprint to you. Compare it on their page here, let them in, and give a permission.'
    })
    form.reset()
  })
  if (went) await refresh()
})

document.addEventListener('click', async (event) => {
  const button = event.target.closest('button[data-recover]')
  if (!button) return
  const { recover, username } = button.dataset
  const sure = `Recover ${username}? All their keys are withdrawn for good, at once, and their sessions end. No vote of theirs counts until somebody lets the new key in.`
  if (!window.confirm(sure)) return
  const went = await attempt(button, async () => {
    const { code } = await signed('POST', `/v1/users/${recover}/recovery`)
    tellOnce({
      title: `${username} can come back`,
      hint: 'Hand this link to them, and to nobody else. It is shown this once and good for one day.',
      values: [{ label: 'Link', value: joinLink({ code }) }],
      next: 'Next: they register a passkey and read its fingerprint to you; compare it here and let them in.'
    })
  })
  if (went) await refresh()
})
