// Forms that sign one call: <form data-send="POST /v1/pools" data-done="It is made." data-next="/dashboard/pools/{id}">.
// A field's name is its place in the body (`calendar.at`); empty ones are left out; data-as="list" is split at commas,
// data-as="number" is a number, data-as="empty" is sent even so.
import { signed } from './api.js'
import { attempt, refresh, say } from './page.js'

/** Return what a form says, as the body of a call. */
export function bodyOf(form) {
  const body = {}
  for (const field of form.elements) {
    if (!field.name || field.disabled || (field.type === 'checkbox' && !field.checked)) continue
    const value = valueOf(field)
    if (field.dataset.as !== 'empty' && value.length === 0) continue
    const path = field.name.split('.')
    const last = path.pop()
    let place = body
    for (const name of path) place = place[name] ??= {}
    if (field.type === 'checkbox') (place[last] ??= []).push(value)
    else place[last] = value
  }
  return body
}

function valueOf(field) {
  const text = field.value.trim()
  if (field.dataset.as === 'list') return text.split(',').map((each) => each.trim()).filter(Boolean)
  return field.dataset.as === 'number' && text !== '' ? Number(text) : text
}

/** Sign and send a form; say how it went. */
async function send(form) {
  const [method, path] = form.dataset.send.split(' ')
  let next = form.dataset.next
  const went = await attempt(form, async () => {
    const answered = await signed(method, path, bodyOf(form))
    const waits = answered?.id?.startsWith('cr-')
    if (waits) next = answered.approvalId ? `/dashboard/approvals/${answered.approvalId}` : undefined
    else next = next?.replace('{id}', answered?.id)
    say(waits ? 'Asked for: it waits for the approval of others.' : form.dataset.done ?? 'Done.', 'good')
  })
  if (!went) return
  form.reset()
  if (next) location.assign(next)
  else await refresh()
}

document.addEventListener('submit', (event) => {
  if (!event.target.matches('form[data-send]')) return
  event.preventDefault()
  send(event.target)
})
