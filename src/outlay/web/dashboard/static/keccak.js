// Keccak-256 as Ethereum uses it (padding 0x01), for the checksums of addresses. Short texts only: one block.

const ROUNDS = 24
const RATE = 136
// Of each lane: how far rho turns it, and where pi puts it.
const TURNS = [1, 3, 6, 10, 15, 21, 28, 36, 45, 55, 2, 14, 27, 41, 56, 8, 25, 43, 62, 18, 39, 61, 20, 44]
const PLACES = [10, 7, 11, 17, 18, 3, 5, 16, 8, 21, 24, 4, 15, 23, 19, 13, 12, 2, 20, 14, 22, 9, 6, 1]
const CONSTANTS = roundConstants()

/** Return the Keccak-256 of an ASCII text of less than 136 characters, in lower-case hex. */
export function keccak256(text) {
  const low = new Uint32Array(25)
  const high = new Uint32Array(25)
  const put = (at, byte) => {
    const lane = at >> 3
    if (at & 4) high[lane] ^= byte << (8 * (at & 3))
    else low[lane] ^= byte << (8 * (at & 3))
  }
  if (text.length >= RATE) throw new Error('too long')
  for (let at = 0; at < text.length; at += 1) put(at, text.charCodeAt(at))
  put(text.length, 0x01)
  put(RATE - 1, 0x80)
  permute(low, high)
  let hex = ''
  for (let at = 0; at < 32; at += 1) {
    const half = at & 4 ? high[at >> 3] : low[at >> 3]
    hex += ((half >>> (8 * (at & 3))) & 0xff).toString(16).padStart(2, '0')
  }
  return hex
}

function permute(low, high) {
  const sumLow = new Uint32Array(5) // of columns, then a copy of a row
  const sumHigh = new Uint32Array(5)
  for (let round = 0; round < ROUNDS; round += 1) {
    for (let x = 0; x < 5; x += 1) {
      sumLow[x] = low[x] ^ low[x + 5] ^ low[x + 10] ^ low[x + 15] ^ low[x + 20]
      sumHigh[x] = high[x] ^ high[x + 5] ^ high[x + 10] ^ high[x + 15] ^ high[x + 20]
    }
    for (let x = 0; x < 5; x += 1) {
      const before = (x + 4) % 5
      const after = (x + 1) % 5
      const addLow = sumLow[before] ^ ((sumLow[after] << 1) | (sumHigh[after] >>> 31))
      const addHigh = sumHigh[before] ^ ((sumHigh[after] << 1) | (sumLow[after] >>> 31))
      for (let y = x; y < 25; y += 5) {
        low[y] ^= addLow
        high[y] ^= addHigh
      }
    }
    let movingLow = low[1]
    let movingHigh = high[1]
    for (let at = 0; at < 24; at += 1) {
      const place = PLACES[at]
      const turn = TURNS[at] % 32
      const first = TURNS[at] < 32 ? movingLow : movingHigh
      const second = TURNS[at] < 32 ? movingHigh : movingLow
      movingLow = low[place]
      movingHigh = high[place]
      low[place] = turn === 0 ? first : (first << turn) | (second >>> (32 - turn))
      high[place] = turn === 0 ? second : (second << turn) | (first >>> (32 - turn))
    }
    for (let row = 0; row < 25; row += 5) {
      for (let x = 0; x < 5; x += 1) {
        sumLow[x] = low[row + x]
        sumHigh[x] = high[row + x]
      }
      for (let x = 0; x < 5; x += 1) {
        low[row + x] ^= ~sumLow[(x + 1) % 5] & sumLow[(x + 2) % 5]
        high[row + x] ^= ~sumHigh[(x + 1) % 5] & sumHigh[(x + 2) % 5]
      }
    }
    low[0] ^= CONSTANTS[round][0]
    high[0] ^= CONSTANTS[round][1]
  }
}

/** Return the 24 round constants: bits of a linear feedback shift register. */
function roundConstants() {
  let register = 1
  return Array.from({ length: ROUNDS }, () => {
    const halves = [0, 0]
    for (let bit = 0; bit < 7; bit += 1) {
      if (register & 1) {
        const at = 2 ** bit - 1
        halves[at >> 5] |= 1 << (at & 31)
      }
      register = register & 0x80 ? ((register << 1) ^ 0x171) & 0xff : register << 1
    }
    return halves
  })
}
