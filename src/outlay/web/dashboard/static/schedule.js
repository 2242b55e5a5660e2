// The form of a recurring payout: the server tells when it would pay, and then exactly that is signed.
import { Refused, call, signed } from './api.js'
import { attempt, say } from './page.js'

const form = document.querySelector('#schedule-form')
const outcome = document.querySelector('#outcome')
const at = (id) => document.querySelector(`#${id}`)
let checked = null

/** Return base units of a decimal amount, as digits; money is never a floating-point number. */
export function baseUnits(text, decimals) {
  const [whole, part = ''] = text.trim().split('.')
  if (!/^[0-9]+$/.test(whole) || !/^[0-9]*$/.test(part)) throw new Refused('Write the amount in digits, such as 12.50.')
  if (part.length > decimals) throw new Refused(`This asset has ${decimals} decimal places at most.`)
  return `${whole}${part.padEnd(decimals, '0')}`.replace(/^0+/, '') || '0'
}

function draft() {
  const asset = at('asset').selectedOptions[0].dataset
  const every = at('every').value
  const calendar = { every, at: at('at').value, adjust: at('adjust').value }
  if (every === 'week') calendar.days = [...form.querySelectorAll('[name=weekday]:checked')].map((each) => each.value)
  if (every === 'month') calendar.day = at('day').value === 'last' ? 'last' : Number(at('day').value)
  const leaveOut = at('leave-out').value.split(',').map((each) => each.trim()).filter(Boolean)
  if (leaveOut.length) calendar.leaveOut = leaveOut
  const payer = at('payer').value
  return {
    name: form.elements.name.value.trim(),
    kind: 'Recurring',
    network: asset.network,
    asset: asset.asset,
    amount: baseUnits(at('amount').value, Number(asset.decimals)),
    recipient: form.elements.recipient.value.trim(),
    ...(form.elements.memo.value.trim() ? { memo: form.elements.memo.value.trim() } : {}),
    ...(payer.startsWith('pool-') ? { poolId: payer } : { walletId: payer }),
    calendar,
    timeZone: at('zone').value.trim(),
    from: at('from').value,
    ...(at('until').value ? { until: at('until').value } : {}),
    ...(at('runs-max').value ? { runsMax: Number(at('runs-max').value) } : {}),
    missed: { catchUpMinutes: Number(at('catch-up').value) }
  }
}

function show() {
  const every = at('every').value
  for (const each of form.querySelectorAll('[data-every]')) each.hidden = each.dataset.every !== every
  const { network } = at('asset').selectedOptions[0].dataset
  for (const each of at('payer').options) each.hidden = each.disabled = each.dataset.network !== network
  if (at('payer').selectedOptions[0]?.disabled) at('payer').value = [...at('payer').options].find((each) => !each.disabled)?.value ?? ''
  checked = null
  outcome.hidden = true
}

function tell(told) {
  const { decimals, symbol } = told.shown
  const digits = told.document.amount.padStart(decimals + 1, '0')
  const part = decimals ? digits.slice(-decimals).replace(/0+$/, '') : ''
  const whole = digits.slice(0, digits.length - decimals).replace(/\B(?=(\d{3})+$)/g, ',')
  at('told-amount').textContent = `${whole}${part ? `.${part}` : ''} ${symbol}`
  at('told-recipient').textContent = told.recipient
  at('told-payer').textContent = at('payer').selectedOptions[0].textContent
  at('told-words').textContent = told.words
  at('told-next').replaceChildren(...told.next.map((run) => {
    const row = document.createElement('li')
    row.textContent = `${run.local} (${run.timeZone})`
    return row
  }))
  if (told.next.length === 0) at('told-next').textContent = 'No date comes: nothing would be paid.'
  at('submit').hidden = told.next.length === 0
}

if (form) {
  at('zone').value = Intl.DateTimeFormat().resolvedOptions().timeZone
  form.addEventListener('input', show)
  form.addEventListener('submit', async (event) => {
    event.preventDefault()
    await attempt(form, async () => {
      const wanted = draft()
      const told = await call('POST', '/dashboard/schedules/check', wanted)
      tell(told)
      checked = wanted
      outcome.hidden = false
      outcome.focus()
      outcome.scrollIntoView()
    })
  })
  at('submit').addEventListener('click', (event) =>
    attempt(event.currentTarget, async () => {
      if (checked === null) throw new Refused('It was changed since: look at when it would pay once more.')
      const answered = await signed('POST', '/v1/mandates', checked)
      if (answered.id.startsWith('cr-')) {
        say('Asked for: it waits for the approval of others.', 'good')
        location.assign(`/dashboard/approvals/${answered.approvalId}`)
      } else {
        location.assign(`/dashboard/schedules/${answered.id}`)
      }
    })
  )
  show()
}
