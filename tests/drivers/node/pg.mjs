// The ways of node-postgres: pg.mjs THROUGH PLAIN
import { COLUMNS, INSERT, LIST, NAMES, ROWS, SEARCHED, SELECT, insertLiterals, judge, load, outcome } from './ways.mjs'

const { Client } = load('pg')
const Cursor = load('pg-cursor')
const QueryStream = load('pg-query-stream')

const rows = async (client, text = SELECT, values = []) => (await client.query({ text, values, rowMode: 'array' })).rows

async function literals(client) {
  for (let row = 0; row < ROWS; row++) await client.query(insertLiterals(row))
  await client.query('INSERT INTO every (id) VALUES (99)')
  const found = await client.query(SELECT)
  return { fields: found.fields.map((f) => [f.name, f.dataTypeID, f.dataTypeSize, f.dataTypeModifier]), rows: found.rows }
}

async function native(client) {
  await literals(client)
  const found = await rows(client)
  await client.query('DELETE FROM every')
  const json = COLUMNS.map((column) => column.type.startsWith('json'))
  return found.map((row) => row.map((value, n) => (n > 0 && json[n - 1] && value !== null ? JSON.stringify(value) : value)))
}

async function parameters(client) {
  for (const row of await native(client)) await client.query(INSERT, row)
  return rows(client)
}

async function prepared(client) {
  for (const row of await native(client)) await client.query({ name: 'insert', text: INSERT, values: row })
  const found = []
  for (let n = 0; n < 6; n++) {
    const text = `SELECT ${LIST} FROM every WHERE id = $1`
    found.push((await client.query({ name: 'one', text, values: [n % ROWS] })).rows)
  }
  return found
}

async function binary(client) {
  await literals(client)
  const kinds = /^(bool|int|float|text|varchar|bytea|timestamp|char)/
  const known = NAMES.filter((_, n) => kinds.test(COLUMNS[n].type))
  return (await client.query({ text: `SELECT ${known} FROM every ORDER BY id`, values: [], binary: true })).rows
}

async function atOnce(client) {
  const found = await native(client)
  return Promise.all(found.map(async (row) => (await client.query(`${INSERT} RETURNING *`, row)).rows))
}

async function cursor(client) {
  await literals(client)
  const reading = client.query(new Cursor(SELECT, []))
  const found = [await reading.read(1), await reading.read(2), await reading.read(100)]
  await reading.close()
  return found
}

async function stream(client) {
  await literals(client)
  const found = []
  for await (const row of client.query(new QueryStream(SELECT, [], { batchSize: 2 }))) found.push(row)
  return found
}

async function equality(client) {
  await literals(client)
  const found = []
  for (const row of await rows(client)) {
    for (const name of SEARCHED) {
      const n = NAMES.indexOf(name)
      const value = row[n + 1]
      const sent = COLUMNS[n].type.startsWith('json') && value !== null ? JSON.stringify(value) : value
      found.push([name, await rows(client, `SELECT id FROM every WHERE ${name} = $1 ORDER BY id`, [sent])])
    }
  }
  return found
}

async function anyOfAnArray(client) {
  await literals(client)
  const found = []
  const before = (await rows(client)).slice(0, ROWS)
  for (const name of SEARCHED) {
    const n = NAMES.indexOf(name)
    if (COLUMNS[n].type.startsWith('json')) continue
    const values = before.map((row) => row[n + 1])
    found.push([name, await rows(client, `SELECT id FROM every WHERE ${name} = ANY($1) ORDER BY id`, [values])])
  }
  return found
}

async function nulls(client) {
  await literals(client)
  await client.query(INSERT, [50, ...NAMES.map(() => null)])
  const found = []
  for (const name of NAMES) found.push(await rows(client, `SELECT id FROM every WHERE ${name} IS NULL ORDER BY id`))
  return found
}

async function savepoints(client) {
  await literals(client)
  await client.query('SAVEPOINT a')
  await client.query('DELETE FROM every')
  await client.query('ROLLBACK TO a')
  return rows(client)
}

async function badInput(client) {
  const found = []
  for (const [n, name] of NAMES.entries()) {
    await client.query('SAVEPOINT a')
    const said = await client
      .query(`INSERT INTO every (id, ${name}) VALUES (1, $1)`, [`not a ${COLUMNS[n].type} at all`])
      .then(() => 'took it', (error) => error.code)
    await client.query('ROLLBACK TO a')
    found.push([name, said])
  }
  return found
}

async function unique(client) {
  await literals(client)
  await client.query(insertLiterals(0, 70))
}

const WAYS = {
  literals, parameters, prepared, 'binary results': binary, 'queries at once': atOnce, cursor, stream,
  '= parameter': equality, '= ANY(array)': anyOfAnArray, NULLs: nulls, savepoints,
  'SQLSTATE of bad input': badInput, 'SQLSTATE of a duplicate': unique,
}

const clients = process.argv.slice(2).map((connectionString) => new Client({ connectionString }))
for (const client of clients) await client.connect()
for (const [name, way] of Object.entries(WAYS)) {
  const outcomes = []
  for (const client of clients) {
    await client.query('BEGIN')
    outcomes.push(await outcome(way, client))
    await client.query('ROLLBACK')
  }
  judge(name, ...outcomes)
}
for (const client of clients) await client.end()
