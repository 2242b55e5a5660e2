import { call } from './api.js'
import { attempt } from './page.js'
import { answer } from './passkey.js'

const form = document.querySelector('#sign-in')
const last = localStorage.getItem('outlay.username')
if (last) form.username.value = last

form.addEventListener('submit', async (event) => {
  event.preventDefault()
  await attempt(form, async () => {
    const username = form.username.value.trim()
    const opened = await call('POST', '/auth/login/init', { username })
    const firstFactor = await answer(opened)
    await call('POST', '/dashboard/session', { challengeIdentifier: opened.challengeIdentifier, firstFactor })
    localStorage.setItem('outlay.username', username)
    location.assign(form.dataset.back)
  })
})
