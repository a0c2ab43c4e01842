// The ways of postgres.js, which prepares and pipelines everything: postgres.mjs THROUGH PLAIN
import { COLUMNS, LIST, NAMES, ROWS, SEARCHED, insertLiterals, judge, load, outcome } from './ways.mjs'

const postgres = load('postgres')

const rows = (sql) => sql`SELECT id, ${sql.unsafe(LIST)} FROM every ORDER BY id`.then((found) => [...found])

async function literals(sql) {
  for (let row = 0; row < ROWS; row++) await sql.unsafe(insertLiterals(row))
  await sql`INSERT INTO every (id) VALUES (99)`
  return rows(sql)
}

async function native(sql) {
  const found = await literals(sql)
  await sql`DELETE FROM every`
  return found
}

async function insert(sql) {
  for (const row of await native(sql)) await sql`INSERT INTO every ${sql(row)}`
  return rows(sql)
}

async function insertMany(sql) {
  await sql`INSERT INTO every ${sql(await native(sql))}`
  return rows(sql)
}

async function atOnce(sql) {
  const found = await native(sql)
  return Promise.all(found.map((row) => sql`INSERT INTO every ${sql(row)} RETURNING *`.then((back) => [...back])))
}

async function update(sql) {
  const found = await literals(sql)
  await sql`UPDATE every SET ${sql({ c7: 'changed', c2: null })} WHERE id = ${found[0].id}`
  return rows(sql)
}

async function cursor(sql) {
  await literals(sql)
  const found = []
  for await (const some of sql`SELECT id, ${sql.unsafe(LIST)} FROM every ORDER BY id`.cursor(2)) found.push([...some])
  return found
}

async function described(sql) {
  const statement = await sql`SELECT ${sql.unsafe(LIST)} FROM every WHERE c7 = ${'x'}`.describe()
  return { types: statement.types, columns: statement.columns.map(({ name, type }) => [name, type]) }
}

async function copyOut(sql) {
  await literals(sql)
  const readable = await sql`COPY every TO STDOUT`.readable()
  const parts = []
  for await (const part of readable) parts.push(part)
  return Buffer.concat(parts).toString()
}

async function equality(sql) {
  const found = []
  for (const row of await literals(sql)) {
    for (const name of SEARCHED) {
      found.push([name, [...(await sql`SELECT id FROM every WHERE ${sql(name)} = ${row[name]} ORDER BY id`)]])
    }
  }
  return found
}

async function inList(sql) {
  const found = []
  const before = (await literals(sql)).slice(0, ROWS)
  for (const name of SEARCHED) {
    const values = before.map((row) => row[name])
    found.push([name, [...(await sql`SELECT id FROM every WHERE ${sql(name)} IN ${sql(values)} ORDER BY id`)]])
  }
  return found
}

async function anyOfAnArray(sql) {
  await literals(sql)
  return [...(await sql`SELECT id FROM every WHERE c7 = ANY(${['ada@example.com', 'x', null]}) ORDER BY id`)]
}

async function savepoints(sql) {
  await literals(sql)
  await sql.savepoint(async (inner) => {
    await inner`DELETE FROM every`
    throw new Error('undo')
  }).catch(() => {})
  return rows(sql)
}

async function badInput(sql) {
  const found = []
  for (const [n, name] of NAMES.entries()) {
    const said = await sql
      .savepoint((inner) => inner.unsafe(`INSERT INTO every (id, ${name}) VALUES (1, 'not a ${COLUMNS[n].type} at all')`))
      .then(() => 'took it', (error) => error.code)
    found.push([name, said])
    await sql`DELETE FROM every`
  }
  return found
}

async function unique(sql) {
  await literals(sql)
  await sql.unsafe(insertLiterals(0, 70))
}

const WAYS = {
  literals, insert, 'insert of many': insertMany, 'queries at once': atOnce, update, cursor, describe: described,
  'COPY out': copyOut, '= parameter': equality, IN: inList, '= ANY(array)': anyOfAnArray, savepoints,
  'SQLSTATE of bad input': badInput, 'SQLSTATE of a duplicate': unique,
}

const connections = process.argv.slice(2).map((url) => postgres(url, { max: 1, onnotice: () => {} }))
const UNDO = new Error('undo')
for (const [name, way] of Object.entries(WAYS)) {
  const outcomes = []
  for (const sql of connections) {
    let found
    await sql
      .begin(async (inner) => {
        found = await outcome(way, inner)
        throw UNDO
      })
      .catch((error) => (found ??= `raised ${error.code ?? error}`))
    outcomes.push(found)
  }
  judge(name, ...outcomes)
}
for (const sql of connections) await sql.end()
