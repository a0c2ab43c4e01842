// What the Node programs share: columns.json, and the comparison of a way through pgveil with plain PostgreSQL (ways.py).
import fs from 'node:fs'
import path from 'node:path'
import { createRequire } from 'node:module'
import { inspect } from 'node:util'

// The packages stand where `make setup` put them, not beside this file.
export const load = createRequire(path.join(process.env.PGVEIL_NODE, 'package.json'))
export const COLUMNS = JSON.parse(fs.readFileSync(new URL('../columns.json', import.meta.url)))
export const NAMES = COLUMNS.map((_, number) => `c${number}`)
export const SEARCHED = NAMES.filter((_, number) => COLUMNS[number].search)
export const LIST = NAMES.join(', ')
export const ROWS = Math.max(...COLUMNS.map((column) => column.values.length))
export const SELECT = `SELECT id, ${LIST} FROM every ORDER BY id`
export const INSERT = `INSERT INTO every (id, ${LIST}) VALUES (${['id', ...NAMES].map((_, n) => `$${n + 1}`).join(', ')})`

const literal = (text) => `E'${text.replaceAll('\\', '\\\\').replaceAll("'", "''")}'`

export function insertLiterals(row, id = row) {
  const values = COLUMNS.map((column) => literal(column.values[row % column.values.length]))
  return `INSERT INTO every (id, ${LIST}) VALUES (${id}, ${values.join(', ')})`
}

export async function outcome(way, ...given) {
  try {
    return inspect(await way(...given), { depth: 9, maxArrayLength: null, maxStringLength: null })
  } catch (error) {
    return `raised ${error.code ?? inspect(error)}`
  }
}

export function judge(name, through, plain) {
  const refused = /^raised (0A000|PV001|PV003)$/.exec(through)
  const verdict =
    through === plain ? 'same' : refused ? `refused with ${refused[1]}` : `WRONG: ${through} instead of ${plain}`
  console.log(`${name}: ${verdict.replaceAll('\n', ' ').slice(0, 3000)}`)
}
