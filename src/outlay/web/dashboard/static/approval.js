// One approval: its words, and the decision, which the passkey signs only if it is about what the page shows.
import { signed } from './api.js'
import { expectDecision } from './binding.js'
import { digest } from './canonical.js'
import { attempt, refresh, say } from './page.js'
import { contentOf, groupsOf } from './shown.js'
import { words } from './words.js'

const asked = document.querySelector('#asked')
const place = document.querySelector('#words')

document.addEventListener('submit', async (event) => {
  const form = event.target.closest('form#decide')
  if (form === null) return
  event.preventDefault()
  const value = event.submitter.value
  const reason = form.reason.value.trim()
  if (value === 'Denied' && reason === '') {
    say('Say why not: whoever asked reads it.', 'problem')
    form.reason.setAttribute('aria-invalid', 'true')
    form.reason.focus()
    return
  }
  // Read before anything is asked of the server: no answer can change what is compared.
  const content = contentOf(asked)
  const groups = groupsOf(document.querySelector('#standing'))
  const body = { value, ...(reason === '' ? {} : { reason }) }
  const went = await attempt(form, async () => {
    const answered = await signed('POST', form.dataset.path, body, {
      check: (opened) => expectDecision(opened, content, groups)
    })
    say(told(value, answered), 'good')
  })
  // Whatever came of it, the page shows how it stands now. What was typed stays where nothing was done.
  if (went) form.reason.value = ''
  document.activeElement?.blur()
  await refresh()
})

function told(value, answered) {
  if (answered.settling !== undefined) return `${value}. It is being carried out, payout by payout.`
  if (value === 'Denied') return 'Denied. It will not be paid or changed.'
  if (answered.status === 'Approved') return 'Approved. It goes ahead now.'
  return 'Approved by you. It waits for others, or for its time.'
}

try {
  place.textContent = await words(await digest(contentOf(asked)))
} catch (error) {
  place.textContent = `There are no words: ${error.message}`
}
