// Giving a permission to somebody: the form of permissions_of.html.
import { signed } from './api.js'
import { attempt, refresh, say } from './page.js'

document.addEventListener('submit', async (event) => {
  const form = event.target.closest('form[data-assign]')
  if (!form) return
  event.preventDefault()
  const chosen = form.elements.permission
  const name = chosen.selectedOptions[0].textContent
  if (!window.confirm(`Give the permission ${name}? It works from then on.`)) return
  const went = await attempt(form, async () => {
    const answered = await signed('POST', `/permissions/${chosen.value}/assignments`, { identityId: form.dataset.assign })
    const waits = answered.status === 'Pending'
    say(waits ? 'Asked for: it waits for the approval of others.' : 'The permission is given.', 'good')
  })
  if (went) {
    chosen.value = ''
    document.activeElement?.blur()
    await refresh()
  }
})
