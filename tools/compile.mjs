// Compile every contract in tools/contracts and write {name: {abi, bytecode}} to the file given.
// The compiler is the WebAssembly build from npm: no download, the same bytes on every machine.
import { mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import solc from 'solc'

const here = dirname(fileURLToPath(import.meta.url))
const folder = join(here, 'contracts')
const output = resolve(process.argv[2] ?? join(here, '..', 'build', 'contracts.json'))

const sources = {}
for (const file of readdirSync(folder).sort()) {
  if (file.endsWith('.sol')) sources[file] = { content: readFileSync(join(folder, file), 'utf8') }
}

const answer = JSON.parse(
  solc.compile(
    JSON.stringify({
      language: 'Solidity',
      sources,
      settings: {
        // Runs on every EVM chain, also those that lack the newest opcodes.
        evmVersion: 'paris',
        optimizer: { enabled: true, runs: 200 },
        outputSelection: { '*': { '*': ['abi', 'evm.bytecode.object'] } },
      },
    }),
  ),
)

const problems = answer.errors ?? []
for (const problem of problems) process.stderr.write(problem.formattedMessage + '\n')
// A warning fails too: these files are small, and a warning nobody reads hides the next one.
if (problems.length > 0) process.exit(1)

const contracts = {}
for (const file of Object.keys(answer.contracts).sort()) {
  for (const name of Object.keys(answer.contracts[file]).sort()) {
    if (name in contracts) {
      process.stderr.write(`two contracts are called ${name}: rename one\n`)
      process.exit(1)
    }
    const { abi, evm } = answer.contracts[file][name]
    contracts[name] = { abi, bytecode: '0x' + evm.bytecode.object }
  }
}

// Written beside and moved over, so that a test that reads at the same time never sees half a file.
mkdirSync(dirname(output), { recursive: true })
writeFileSync(output + '.part', JSON.stringify(contracts, null, 1) + '\n')
renameSync(output + '.part', output)
