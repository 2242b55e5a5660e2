// Webhooks: making one, giving one a new secret, sending again what was missed.
import { signed } from './api.js'
import { tellOnce } from './once.js'
import { attempt, refresh, say } from './page.js'

const SECRET_HINT = 'The program that receives checks signatures with it. It is shown this once.'

/** Return which events a form asks for. */
function chosen(form) {
  return form.elements.all.checked ? ['*'] : [...form.querySelectorAll('[name=event]:checked')].map(({ value }) => value)
}

document.addEventListener('change', (event) => {
  if (event.target.name !== 'all') return
  event.target.form.querySelector('[data-kinds]').hidden = event.target.checked
})

document.querySelector('#create')?.addEventListener('submit', async (event) => {
  event.preventDefault()
  const form = event.target
  const went = await attempt(form, async () => {
    const { url, description } = form.elements
    const made = await signed('POST', '/webhooks', {
      url: url.value.trim(),
      events: chosen(form),
      ...(description.value.trim() ? { description: description.value.trim() } : {})
    })
    tellOnce({
      title: `${made.url} is told from now on`,
      hint: SECRET_HINT,
      values: [{ label: 'Secret', value: made.secret }],
      next: 'Next: put the secret into the program that receives, and open the webhook below to send a ping.'
    })
    form.reset()
    form.querySelector('[data-kinds]').hidden = true
  })
  if (went) await refresh()
})

document.addEventListener('submit', async (event) => {
  const form = event.target.closest('form[data-webhook]')
  if (!form) return
  event.preventDefault()
  const work = { rotate, replay, subscribe, ping }[form.dataset.does]
  if (await attempt(form, () => work(form, `/webhooks/${form.dataset.webhook}`))) await refresh()
})

async function ping(_form, path) {
  const { status, error } = await signed('POST', `${path}/ping`)
  if (error) say(`It did not take the ping (${status === '0' ? 'no answer' : `status ${status}`}): ${error}`, 'problem')
  else say(`It took the ping: status ${status}.`, 'good')
}

async function rotate(form, path) {
  const overlapMinutes = Number(form.elements.hours.value) * 60
  const made = await signed('POST', `/v1${path}/secret`, { overlapMinutes })
  tellOnce({
    title: 'The new secret',
    hint: SECRET_HINT,
    values: [{ label: 'Secret', value: made.secret }],
    next: overlapMinutes
      ? `The old one signs too for ${overlapMinutes / 60} hours: until then every delivery carries both signatures.`
      : 'The old one signs nothing any more: change it in the program that receives now.'
  })
}

async function subscribe(form, path) {
  await signed('PUT', path, { events: chosen(form) })
  say('It is told of these from now on.', 'good')
}

async function replay(form, path) {
  const { which, event, payout, since, until } = form.elements
  const wanted = {
    failed: () => ({ failed: true }),
    event: () => ({ eventId: event.value.trim() }),
    payout: () => ({ payoutId: payout.value.trim() }),
    time: () => ({ since: instant(since), ...(until.value ? { until: instant(until) } : {}) })
  }[which.value]()
  let count = 0
  let token
  do {
    // Of what was given up the rest is found anew: it has no token to go on with.
    const answered = await signed('POST', `/v1${path}/replay`, { ...wanted, ...(token ? { paginationToken: token } : {}) })
    count += answered.count
    token = answered.nextPageToken
  } while (token && window.confirm(`${count} are sent again. There are more: go on? Each thousand is signed for by itself.`))
  say(count === 0 ? 'There is nothing to send again.' : `${count} are sent again, in their order.`, count === 0 ? 'note' : 'good')
}

/** Return what a field of date and time says, which is in the reader's own zone. */
function instant(field) {
  const at = new Date(field.value)
  if (Number.isNaN(at.valueOf())) throw new Error('Say from when on.')
  return at.toISOString()
}

const form = document.querySelector('form[data-does=replay]')
function showWhich() {
  for (const each of form.querySelectorAll('[data-of]')) each.hidden = each.dataset.of !== form.elements.which.value
}
form?.elements.which.addEventListener('change', showWhich)
if (form) showWhich()
