// Paying a file: read it, show what is wrong with it and what it comes to, sign once, upload.
import { signed } from './api.js'
import { FileRefused } from './batch_file.js'
import { hideReport, meter, showReport, step } from './batch_report.js'
import { checkAll, readWhole, uploadAll } from './batch_upload.js'
import { attempt, say } from './page.js'

const form = document.querySelector('#file')
const submit = document.querySelector('#submit')
let ready = null // what was checked and may be signed

form?.addEventListener('change', () => {
  document.querySelector('#whole').textContent = form.elements.payer.selectedOptions[0].dataset.whole
  ready = null
  submit.hidden = true
  hideReport()
})

form?.addEventListener('submit', async (event) => {
  event.preventDefault()
  const [chosen] = form.elements.chosen.files
  const { value, dataset } = form.elements.payer.selectedOptions[0]
  ready = null
  submit.hidden = true
  hideReport()
  await attempt(form, async () => {
    try {
      await check(chosen, { [dataset.member]: value }, dataset.network, JSON.parse(form.dataset.assets)[dataset.network])
    } catch (error) {
      if (!(error instanceof FileRefused)) throw error
      showReport({ title: 'The file cannot be read', lead: `${chosen.name} ${error.message}.` })
    } finally {
      step(null)
    }
  })
})

async function check(chosen, payer, network, assets) {
  const { file, count, digest } = await readWhole(chosen, network, assets, meter('Reading the file'))
  const warnings = { title: 'To look at, though it may be meant', rows: file.warnings, file: 'warnings.csv' }
  const rows = file.count.toLocaleString('en')
  if (file.problems.length) {
    showReport({
      title: 'Nothing can be paid yet',
      lead: `${rows} rows were read. Correct what is listed and choose the file again: it is paid whole or not at all.`,
      tables: [{ title: 'What has to be corrected', rows: file.problems, file: 'problems.csv' }, warnings]
    })
    return
  }
  const { totals, same, problems } = await checkAll(chosen, network, assets, payer, meter('Asking the server'))
  const refused = { title: 'Rows that would be refused', rows: problems, file: 'refused.csv' }
  const said = [
    `${rows} rows were read.`,
    ...(same ? [`${same.toLocaleString('en')} were asked for before with the same content: they are not paid again.`] : []),
    ...(file.lowerCase ? [`${file.lowerCase.toLocaleString('en')} recipients carry no checksum, so a wrong character in them is not seen.`] : [])
  ]
  if (problems.length) {
    showReport({ title: 'Nothing can be paid yet', lead: said.join(' '), totals, tables: [refused, warnings] })
    return
  }
  showReport({ title: 'The file is good', lead: said.join(' '), totals, tables: [warnings] })
  submit.elements.name.value = chosen.name.slice(0, 200)
  submit.hidden = false
  ready = { chosen, payer, network, assets, count, digest }
}

submit?.addEventListener('submit', async (event) => {
  event.preventDefault()
  if (ready === null) return
  const { chosen, payer, network, assets, count, digest } = ready
  let batch = null
  const went = await attempt(submit, async () => {
    batch = await signed('POST', '/v1/batches', { name: submit.elements.name.value.trim(), ...payer, digest, count })
    await uploadAll(chosen, network, assets, batch, meter('Uploading'))
  })
  step(null)
  if (went || batch !== null) {
    // Broken off or not: its own page tells how it stands, and goes on from there.
    if (!went) say('The upload was broken off: go on from the page of the batch.', 'problem')
    location.assign(`/dashboard/batches/${batch.id}`)
  }
})
