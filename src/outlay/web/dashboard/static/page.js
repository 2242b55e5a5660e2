// What every page does: times in the reader's zone, fresh content, buttons that sign, telling how it went.
import { Refused, call, signed } from './api.js'
import { NotSigned } from './passkey.js'

/** Say something to the reader, on the screen and to a screen reader. */
export function say(text, kind = 'note') {
  const place = document.querySelector('#say')
  place.className = kind
  place.textContent = text
  if (kind === 'problem') place.scrollIntoView({ block: 'nearest' })
}

/** Run what a button or a form does: once at a time, and whatever goes wrong is said. Return whether it went well. */
export async function attempt(element, what) {
  const buttons = [element, ...element.querySelectorAll('button')].filter((each) => each instanceof HTMLButtonElement)
  if (element.dataset.busy !== undefined) return false
  element.dataset.busy = ''
  for (const each of buttons) each.disabled = true
  say('')
  try {
    await what()
    return true
  } catch (error) {
    if (!(error instanceof Refused || error instanceof NotSigned)) console.error(error)
    if (error instanceof Refused && error.status === 401 && document.body.dataset.livePage !== undefined) {
      say('You are signed out. Sign in again; nothing was done.', 'problem')
    } else {
      say(error.message, 'problem')
    }
    return false
  } finally {
    delete element.dataset.busy
    for (const each of buttons) each.disabled = false
  }
}

/** Write times in the reader's own zone; UTC stays where the pointer rests and in the element itself. */
export function tellTimes(root = document) {
  const form = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium' })
  for (const each of root.querySelectorAll('time[datetime]:not([data-told])')) {
    const at = new Date(each.dateTime)
    if (Number.isNaN(at.valueOf())) continue
    each.title = each.textContent.trim()
    each.dataset.told = ''
    each.textContent = form.format(at)
  }
  const zone = document.querySelector('[data-zone]')
  const name = form.resolvedOptions().timeZone
  if (zone && name !== 'UTC') zone.textContent = `times are of ${name}; point at one to read it in UTC`
}

/** Read this page again, and put what is live in the place of what is shown. */
export async function refresh() {
  const fresh = await new Promise((resolve) => {
    const request = new XMLHttpRequest()
    request.open('GET', location.href)
    request.responseType = 'document'
    request.onload = () => resolve(request.status === 200 ? request.responseXML : null)
    request.onerror = () => resolve(null)
    request.send()
  })
  if (fresh === null) return
  for (const shown of document.querySelectorAll('[data-live][id]')) {
    const next = fresh.getElementById(shown.id)
    // What somebody is in the middle of is left alone.
    if (next === null || shown.contains(document.activeElement?.closest('input, select, textarea, [data-busy]') ?? null)) continue
    if (shown.querySelector('[data-busy], dialog[open]')) continue
    const focused = shown.contains(document.activeElement) ? document.activeElement.id : ''
    const open = [...shown.querySelectorAll('details[open][id]')].map((each) => each.id)
    const adopted = document.adoptNode(next)
    tellTimes(adopted)
    if (shown.innerText === adopted.innerText && shown.isEqualNode(adopted)) continue
    shown.replaceWith(adopted)
    for (const id of open) document.getElementById(id)?.setAttribute('open', '')
    if (focused) document.getElementById(focused)?.focus()
    adopted.dispatchEvent(new CustomEvent('refreshed', { bubbles: true }))
  }
}

function listen() {
  const places = () => [...document.querySelectorAll('[data-live][id]')]
  if (places().length === 0) return
  let waiting = 0
  const source = new EventSource('/dashboard/stream')
  source.onmessage = ({ data }) => {
    const topics = JSON.parse(data)
    const wanted = places().some((each) => each.dataset.live.split(' ').some((topic) => topics.includes(topic)))
    if (!wanted || document.hidden) {
      waiting = wanted ? 1 : waiting
      return
    }
    refresh()
  }
  source.addEventListener('ended', () => {
    source.close()
    say('You are signed out: what you see here is not kept up to date any more.', 'problem')
  })
  document.addEventListener('visibilitychange', () => {
    if (!document.hidden && waiting) {
      waiting = 0
      refresh()
    }
  })
}

/**
 * Buttons that sign one call: <button data-sign="PUT /webhooks/wh-1" data-body='{"status":"Disabled"}'
 * data-confirm="Switch it off?" data-done="It is off." data-next="/dashboard/webhooks">
 */
async function onSign(button) {
  const [method, path] = button.dataset.sign.split(' ')
  if (button.dataset.confirm && !window.confirm(button.dataset.confirm)) return
  const went = await attempt(button, async () => {
    const answered = await signed(method, path, button.dataset.body ? JSON.parse(button.dataset.body) : undefined)
    const waits = answered?.status === 'Pending' && answered?.id?.startsWith('cr-')
    say(waits ? 'Asked for: it waits for the approval of others.' : button.dataset.done ?? 'Done.', 'good')
  })
  if (went && button.dataset.next) location.assign(button.dataset.next)
  else if (went) await refresh()
}

document.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-sign]')
  if (button) onSign(button)
  const copy = event.target.closest('button[data-copy]')
  if (copy) navigator.clipboard.writeText(copy.dataset.copy).then(() => say('Copied.', 'good'))
  const leave = event.target.closest('[data-sign-out]')
  if (leave) {
    attempt(leave, async () => {
      await call('POST', '/dashboard/sign-out', {})
      location.assign('/dashboard/sign-in')
    })
  }
})

tellTimes()
// A page that is wide has its menu open; what is narrow opens it by hand.
const menu = document.querySelector('details.menu')
if (menu) menu.open = window.matchMedia('(min-width: 56rem)').matches
if (document.body.dataset.livePage !== undefined) listen()
