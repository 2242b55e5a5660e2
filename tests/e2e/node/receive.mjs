// Checks deliveries the way JavaScript receivers do: parsed, written again with JSON.stringify, and compared.

import { createHmac } from 'node:crypto'
import { input, output } from './sdk.mjs'

const verified = input.arrivals.map(({ body, signature }) => {
  const rewritten = JSON.stringify(JSON.parse(body))
  const hmac = createHmac('sha256', input.secret).update(rewritten).digest('hex')
  return { same: rewritten === body, verified: signature === `sha256=${hmac}` }
})
output({ verified })
