// What is told once: a link, a secret, a private key. It stays on the page until the reader leaves it.

/**
 * Return the address where a code is taken up: this one, where passkeys work, as whoever reads this has shown.
 * What stands behind the # is sent to no server.
 */
export function joinLink(named) {
  return `${location.origin}/dashboard/join#${new URLSearchParams(named)}`
}

/**
 * Show values that no page shows again.
 * `values`: of each its `label`, its `value`, and `file`, the name it is saved under, where it can be.
 */
export function tellOnce({ title, hint, values, next = '' }) {
  const place = document.querySelector('#once')
  document.querySelector('#once-title').textContent = title
  document.querySelector('#once-hint').textContent = hint
  document.querySelector('#once-next').textContent = next
  document.querySelector('#once-values').replaceChildren(...values.map(shown))
  place.hidden = false
  place.focus()
  place.scrollIntoView({ block: 'start' })
}

function shown({ label, value, file }) {
  const whole = document.createElement('div')
  whole.className = 'once-value'
  const name = document.createElement('p')
  name.textContent = label
  const text = document.createElement(value.includes('\n') ? 'pre' : 'code')
  text.className = value.includes('\n') ? 'document' : 'address'
  text.textContent = value
  const actions = document.createElement('div')
  actions.className = 'actions tight'
  const copy = document.createElement('button')
  copy.type = 'button'
  copy.dataset.copy = value
  copy.textContent = 'Copy'
  actions.append(copy)
  if (file) {
    const save = document.createElement('a')
    save.className = 'button'
    save.download = file
    save.href = URL.createObjectURL(new Blob([value], { type: 'application/octet-stream' }))
    save.textContent = `Save as ${file}`
    actions.append(save)
  }
  whole.append(name, text, actions)
  return whole
}
