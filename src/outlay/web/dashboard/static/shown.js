// What a page shows of an approval, read back from the page itself: the content that a decision signs.

/** Return the content that is shown within `root`. */
export function contentOf(root) {
  const whole = root.querySelector('[data-content]')
  if (whole) return JSON.parse(whole.textContent)
  const content = {}
  for (const each of root.querySelectorAll('[data-member]')) {
    const { member, type } = each.dataset
    if (member in content) throw new Error(`${member} is shown twice`)
    const text = each.textContent
    if (type === 'none') content[member] = null
    else if (type === 'empty') content[member] = ''
    else if (type === 'number') content[member] = Number(text)
    else if (type === 'address') content[member] = text.toLowerCase()
    else content[member] = text
  }
  return content
}

/** Return the groups that are shown within `root`. */
export function groupsOf(root) {
  return JSON.parse(root.querySelector('[data-groups]').textContent)
}
