// Finish package-lock.json after `npm install --package-lock-only`, so that one lock serves every machine.
//
// - anvil's platform packages hold a native binary and need no Node.js, yet they declare node >= 20; being
//   optional, npm would then leave them out without a word on Debian 12 (Node.js 18). That condition is dropped.
// - `npm ci` wants every platform listed, also those a registry did not offer when the lock was written.
// - The lock names no registry host: npm asks the one it is configured for, and checks the hashes.
import { readFileSync, writeFileSync } from 'node:fs'

const path = new URL('package-lock.json', import.meta.url)
const lock = JSON.parse(readFileSync(path, 'utf8'))
const packages = lock.packages

const anvil = packages['node_modules/@foundry-rs/anvil']
const systems = { darwin: 'darwin', linux: 'linux', win32: 'win32' }
const processors = { amd64: 'x64', arm64: 'arm64' }
for (const [name, version] of Object.entries(anvil.optionalDependencies)) {
  const [system, processor] = name.split('/')[1].split('-').slice(-2)
  if (!(system in systems && processor in processors)) throw new Error(`unknown platform package ${name}`)
  const entry = packages[`node_modules/${name}`] ?? {
    version,
    cpu: [processors[processor]],
    license: anvil.license,
    optional: true,
    os: [systems[system]],
  }
  delete entry.engines
  packages[`node_modules/${name}`] = entry
}

for (const entry of Object.values(packages)) delete entry.resolved
lock.packages = Object.fromEntries(Object.entries(packages).sort(([a], [b]) => (a < b ? -1 : 1)))
writeFileSync(path, JSON.stringify(lock, null, 2) + '\n')
