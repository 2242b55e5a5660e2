// Resolving a payout that had another effect than was asked for: what a person found is signed.
import { signed } from './api.js'
import { attempt, refresh, say } from './page.js'

document.addEventListener('submit', async (event) => {
  const form = event.target
  if (form.id !== 'resolve') return
  event.preventDefault()
  const went = await attempt(form, async () => {
    await signed('POST', form.dataset.path, { outcome: form.outcome.value, reason: form.reason.value.trim() })
  })
  if (!went) return
  document.activeElement?.blur()
  await refresh()
  say('It is resolved.', 'good')
})
