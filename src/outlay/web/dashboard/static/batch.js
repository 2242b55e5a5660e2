// One batch: how it gets on, and going on with an upload.
import { call } from './api.js'
import { FileRefused } from './batch_file.js'
import { meter, showReport, step } from './batch_report.js'
import { readWhole, uploadAll } from './batch_upload.js'
import { attempt, refresh } from './page.js'

const LOOK_MS = 2000

// Rows that are uploaded or refused raise no event: while it moves, the page looks.
setInterval(() => {
  if (!document.hidden && document.querySelector('#batch[data-moves]')) refresh()
}, LOOK_MS)

document.querySelector('#resume')?.addEventListener('submit', async (event) => {
  event.preventDefault()
  const form = event.target
  const { batch, digest: wanted, count, network } = form.dataset
  const assets = JSON.parse(form.dataset.assets)
  const [chosen] = form.elements.chosen.files
  const went = await attempt(form, async () => {
    try {
      const found = await readWhole(chosen, network, assets, meter('Reading the file'))
      if (found.file.problems.length || found.digest !== wanted || found.count !== Number(count)) {
        showReport({ title: 'This is another file', lead: `${chosen.name} does not hold the rows that were signed. Nothing was uploaded.` })
        throw new FileRefused('Choose the file that was signed.')
      }
      const standing = await call('GET', `/v1/batches/${batch}`)
      await uploadAll(chosen, network, assets, standing, meter('Uploading'))
    } finally {
      step(null)
    }
  })
  if (went) location.reload()
})
