// What the chain says now that a wallet holds: asked when the page opens, and told with the time it was asked.
import { call } from './api.js'

async function ask() {
  const table = document.querySelector('#balances')
  const note = document.querySelector('#asked')
  try {
    const { assets } = await call('GET', `/wallets/${table.dataset.wallet}/assets`)
    for (const cell of document.querySelectorAll('#balances [data-asset]')) {
      const held = assets.find((each) => (each.contract ?? 'native').toLowerCase() === cell.dataset.asset.toLowerCase())
      cell.textContent = held === undefined || !held.verified ? 'not known' : written(held)
    }
    note.textContent = `The last column was asked from the network at ${new Date().toLocaleTimeString()}. Until what came or went is final, it differs from the ledger.`
  } catch (error) {
    note.textContent = `The network could not be asked: ${error.message}`
  }
}

function written({ balance, decimals, symbol }) {
  const digits = balance.padStart(decimals + 1, '0')
  const whole = digits.slice(0, digits.length - decimals).replace(/\B(?=(\d{3})+$)/g, ',')
  const part = decimals ? digits.slice(-decimals).replace(/0+$/, '') : ''
  return `${whole}${part ? `.${part}` : ''} ${symbol}`
}

ask()
document.addEventListener('refreshed', ({ target }) => {
  if (target.querySelector('#balances')) ask()
})
