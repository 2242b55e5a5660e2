// The form of a policy and its JSON, side by side; what would change, told by the server; then exactly that is signed.
import { Refused, call, signed } from './api.js'
import { attempt, say } from './page.js'

const form = document.querySelector('#policy-form')
const text = document.querySelector('#document')
const outcome = document.querySelector('#outcome')
const simple = document.querySelector('#simple')
const field = form.elements
const governing = JSON.parse(form.dataset.kinds)
let checked = null
let against = null // the version in force that it was compared with
let kept = {} // what a group says that the form does not show

const sorted = (value) =>
  Array.isArray(value) ? value.map(sorted)
    : value !== null && typeof value === 'object' ? Object.fromEntries(Object.keys(value).sort().map((key) => [key, sorted(value[key])]))
      : value
const same = (first, second) => JSON.stringify(sorted(first)) === JSON.stringify(sorted(second))
const words = (value) => value.split(',').map((each) => each.trim()).filter(Boolean)

/** Return the policy that the form says. */
function fromForm() {
  const rule = field.rule.value
  const configuration = {}
  if (rule === 'TransactionAmountLimit' || rule === 'TransactionAmountVelocity') {
    configuration.limit = Number(field.dollars.value)
    configuration.currency = 'USD'
  }
  if (rule === 'TransactionCountVelocity') configuration.limit = Number(field.count.value)
  if (rule.endsWith('Velocity')) {
    configuration.timeframe = Number(field.timeframe.value)
    if (field.scope.value !== 'wallet') configuration.scope = field.scope.value
  }
  if (rule === 'TransactionRecipientWhitelist') configuration.addresses = field.addresses.value.split(/\s+/).filter(Boolean)
  const action = { kind: field.action.value }
  if (action.kind === 'RequestApproval') {
    action.autoRejectTimeout = field.timeout.value === '' ? null : Number(field.timeout.value)
    const people = [...form.querySelectorAll('[name=approver]:checked')].map((each) => each.value)
    action.approvalGroups = [{
      ...kept,
      quorum: Number(field.quorum.value),
      approvers: field.who.value === 'any' ? {} : { userId: { in: people } },
      initiatorCanApprove: field.initiator.checked
    }]
  }
  const tags = isPaying() ? words(field.tags.value) : []
  return {
    name: field.name.value,
    activityKind: field.kind.value,
    rule: { kind: rule, configuration },
    action,
    ...(tags.length ? { filters: { walletTags: { hasAny: tags } } } : {})
  }
}

/** Fill the form from a policy. */
function intoForm(policy) {
  const rule = policy.rule ?? {}
  const configuration = rule.configuration ?? {}
  const group = policy.action?.approvalGroups?.[0] ?? {}
  const { name, serviceAccountsCanApprove } = group
  kept = { ...(name === undefined ? {} : { name }), ...(serviceAccountsCanApprove ? { serviceAccountsCanApprove } : {}) }
  field.name.value = policy.name ?? ''
  field.kind.value = policy.activityKind
  field.rule.value = rule.kind
  field.dollars.value = rule.kind === 'TransactionCountVelocity' ? '' : configuration.limit ?? ''
  field.count.value = rule.kind === 'TransactionCountVelocity' ? configuration.limit : ''
  field.timeframe.value = configuration.timeframe ?? 1440
  field.scope.value = configuration.scope ?? 'wallet'
  field.addresses.value = (configuration.addresses ?? []).join('\n')
  field.tags.value = (policy.filters?.walletTags?.hasAny ?? []).join(', ')
  field.action.value = policy.action?.kind
  field.quorum.value = group.quorum ?? 1
  field.timeout.value = policy.action?.autoRejectTimeout ?? ''
  field.initiator.checked = group.initiatorCanApprove === true
  const people = group.approvers?.userId?.in ?? []
  field.who.value = group.approvers?.userId ? 'listed' : 'any'
  for (const each of form.querySelectorAll('[name=approver]')) each.checked = people.includes(each.value)
}

/** Return a policy written as the form writes it, to see whether the form says all of it. */
function plain(policy) {
  const action = { ...policy.action }
  if (action.approvalGroups) {
    action.autoRejectTimeout ??= null
    action.approvalGroups = action.approvalGroups.map(({ serviceAccountsCanApprove, ...group }) => ({
      initiatorCanApprove: false,
      ...group,
      ...(serviceAccountsCanApprove ? { serviceAccountsCanApprove } : {}),
      approvers: group.approvers?.userId ? { userId: { in: [...group.approvers.userId.in].sort() } } : {}
    }))
  }
  const { filters, ...rest } = policy
  return { ...rest, action, ...(filters && Object.keys(filters).length ? { filters } : {}) }
}

const isPaying = () => field.kind.value === 'Wallets:Sign' || field.kind.value === 'Wallets:Refill'

/** Show what belongs to what is chosen. Hidden fields are switched off, so nobody has to fill them in. */
function show() {
  if (!isPaying()) field.rule.value = 'AlwaysTrigger'
  for (const option of field.rule.options) option.disabled = !isPaying() && option.value !== 'AlwaysTrigger'
  for (const option of field.action.options) option.disabled = !governing[field.kind.value].includes(option.value)
  if (field.action.selectedOptions[0]?.disabled) field.action.value = governing[field.kind.value][0]
  const chosen = { for: field.rule.value, then: field.action.value, of: field.kind.value }
  for (const [kind, value] of Object.entries(chosen)) {
    for (const each of form.querySelectorAll(`[data-${kind}]`)) {
      each.hidden = !each.dataset[kind].split(' ').includes(value)
      for (const input of each.querySelectorAll('input, select, textarea')) input.disabled = each.hidden
    }
  }
  for (const each of form.querySelectorAll('[name=approver]')) each.closest('label').hidden = field.who.value === 'any'
}

function forget() {
  checked = null
  outcome.hidden = true
}

/** Say whether the form can say all that the JSON says; if not, only the JSON is to be changed. */
function readText() {
  let policy
  try {
    policy = JSON.parse(text.value)
    intoForm(policy)
    show()
  } catch {
    policy = null
  }
  const fits = policy !== null && same(plain(policy), plain(fromForm()))
  simple.disabled = !fits
  simple.hidden = !fits
  document.querySelector('#beyond').hidden = fits
}

simple.addEventListener('input', () => {
  show()
  text.value = JSON.stringify(fromForm(), null, 2)
  forget()
})
text.addEventListener('input', forget)
text.addEventListener('change', readText)

/** Return what the server says would change, beside what is in force now. */
function compared(policy) {
  const policyId = form.dataset.policy
  return call('POST', '/dashboard/policies/check', policyId ? { policyId, policy } : { policy })
}

form.addEventListener('submit', async (event) => {
  event.preventDefault()
  await attempt(form, async () => {
    let policy
    try {
      policy = JSON.parse(text.value)
    } catch (error) {
      throw new Refused(`This is no JSON: ${error.message}`)
    }
    const told = await compared(policy)
    tell(told)
    against = told.version
    checked = told.isSame || told.blocks.length ? null : policy
    outcome.hidden = false
    outcome.focus()
    outcome.scrollIntoView()
  })
})

function tell(told) {
  const put = (id, value) => { document.querySelector(id).textContent = value }
  put('#was', told.wordsBefore ?? 'There is no such policy yet.')
  put('#words', told.words)
  put('#direction', told.isSame ? 'The same: there is nothing to sign.'
    : told.isTighter === null && told.opens ? 'A policy more. What no policy is about is refused here: what this one is about and does not stop may go.'
    : told.isTighter === null ? 'A policy more: it lets nothing through that was stopped before.'
      : told.isTighter ? 'At least as strict: whatever it lets through, the policy in force lets through, too.'
        : 'Not proven to be as strict: it may let through what the policy in force stops.')
  put('#asks', told.blocks.length ? `Nobody can agree: ${told.blocks.join(', ')} refuses such changes.`
    : told.asks.length ? `It waits for the people of: ${told.asks.join(', ')}.${told.waitsAfter ? ' After they agreed it waits once more, as long as is configured.' : ''}`
      : 'Only you, with your signature: it is in force at once.')
  const lines = document.querySelector('#lines')
  lines.replaceChildren(...told.lines.map(([sign, line]) => {
    const row = document.createElement('span')
    row.className = { '-': 'gone', '+': 'new' }[sign] ?? 'stays'
    row.textContent = `${sign} ${line}\n`
    return row
  }))
  document.querySelector('#submit').hidden = told.isSame || told.blocks.length > 0
}

document.querySelector('#submit').addEventListener('click', (event) =>
  attempt(event.currentTarget, async () => {
    if (checked === null) throw new Refused('It was changed since: look at what would change once more.')
    if ((await compared(checked)).version !== against) {
      forget()
      throw new Refused('Somebody changed this policy meanwhile: look at what would change once more.')
    }
    const policyId = form.dataset.policy
    const answered = policyId ? await signed('PUT', `/v2/policies/${policyId}`, checked) : await signed('POST', '/v2/policies', checked)
    if (answered.id.startsWith('cr-')) {
      say('Asked for: it waits for the approval of others.', 'good')
      location.assign(`/dashboard/approvals/${answered.approvalId}`)
    } else {
      location.assign(`/dashboard/policies/${answered.id}`)
    }
  })
)

readText()
