//! Times, intervals, addresses and arrays: read, written, searched.

use anyhow::Result;

use crate::{refused, same, same_with};

#[test]
fn clocks_addresses_and_arrays_read_as_plain_ones() -> Result<()> {
    same(&[
        "SELECT * FROM visits",
        "SELECT at, zoned, span FROM visits ORDER BY id",
        "SELECT host, net, mac, tags, sizes, prices, days FROM visits WHERE id < 4",
        "SELECT tags IS NULL, sizes IS NOT NULL FROM visits",
        "SELECT at::text, zoned::text, span::text, host::text, net::varchar, mac::text, tags::text, days::text FROM visits",
    ])
}

#[test]
fn equality_of_clocks_addresses_and_arrays() -> Result<()> {
    same(&[
        "SELECT id FROM visits WHERE at = '10:00'",
        "SELECT id FROM visits WHERE at = time '10:00:00.0001'",
        "SELECT id FROM visits WHERE at = interval '1 day'",
        "SELECT id FROM visits WHERE zoned = '10:00+02'",
        "SELECT id FROM visits WHERE zoned <> time with time zone '10:00+02'",
        "SELECT id FROM visits WHERE span = '1 day'",
        "SELECT id FROM visits WHERE span = interval '1' day",
        "SELECT id FROM visits WHERE span = interval '1440' minute AND id > 0",
        "SELECT id FROM visits WHERE span IN ('-30 days', interval '24:00')",
        "SELECT id FROM visits WHERE span = ANY('{1 day,2 days}')",
        "SELECT id FROM visits WHERE host = '10.0.0.1'",
        "SELECT id FROM visits WHERE host = inet '10.0.0.1' OR net = '10.0.0.1/8'",
        "SELECT id FROM visits WHERE net = cidr '10.0.0.0/8'",
        "SELECT id FROM visits WHERE net = ANY(ARRAY['10.0.0.0/8', '::/0']::cidr[])",
        "SELECT id FROM visits WHERE mac = '0800.2b01.0203'",
        "SELECT id FROM visits WHERE tags = '{a,b}'",
        "SELECT id FROM visits WHERE tags = ARRAY['a','b']",
        "SELECT id FROM visits WHERE tags = ARRAY[['a'],['b']]",
        "SELECT id FROM visits WHERE tags <> '{a,b}'::text[]",
        "SELECT id FROM visits WHERE sizes = ARRAY[1,2]",
        "SELECT id FROM visits WHERE sizes = '[0:1]={1,2}'",
        "SELECT id FROM visits WHERE prices = ARRAY[1.500]",
        "SELECT id FROM visits WHERE prices = '{NULL,2}'",
        "SELECT a.id, b.id FROM visits a JOIN visits b ON a.span = b.span AND a.tags = b.tags",
        "SELECT DISTINCT span = '1 day' FROM visits",
        "SELECT count(DISTINCT tags), count(DISTINCT span), count(DISTINCT host) FROM visits",
        "SELECT count(*) FROM visits GROUP BY sizes ORDER BY 1",
    ])?;
    same_with(&[
        ("SELECT id FROM visits WHERE span = $1", &[Some("24:00")]),
        (
            "SELECT id FROM visits WHERE net = $1",
            &[Some("10.0.0.1/8")],
        ),
        ("SELECT id FROM visits WHERE tags = $1", &[Some("{a,b}")]),
        (
            "SELECT id FROM visits WHERE tags = $1::text[]",
            &[Some("{a,b}")],
        ),
        ("SELECT id FROM visits WHERE tags = $1", &[None]),
        (
            "SELECT id FROM visits WHERE at = ANY($1)",
            &[Some("{10:00,24:00}")],
        ),
        (
            "SELECT id FROM visits WHERE at = $1 OR $1 IS NULL",
            &[Some("10:00")],
        ),
    ])
}

#[test]
fn clocks_addresses_and_arrays_are_written() -> Result<()> {
    same(&[
        "INSERT INTO visits (id, tags, sizes, days) VALUES (9, ARRAY['x', NULL], ARRAY[1, 2], ARRAY['2024-01-01']::date[]) RETURNING *",
        "INSERT INTO visits (id, tags) VALUES (9, ARRAY[1, 2]) RETURNING tags",
        "INSERT INTO visits (id, at, span) VALUES (9, timestamp '2024-01-01 10:00:00.12345', time '10:00') RETURNING at, span",
        "INSERT INTO visits (id, net, host) VALUES (9, inet '10.1.2.3/8', cidr '10.0.0.0/8')",
        "INSERT INTO visits (id, net, host) VALUES (9, inet '11.1.2.3/8', cidr '10.0.0.0/8') RETURNING net, host",
        "UPDATE visits SET tags = '{}', span = interval '1-2' year to month WHERE id = 1 RETURNING tags, span",
        "UPDATE visits SET prices = ARRAY[1.005, 2] WHERE id = 1 RETURNING prices",
        "UPDATE visits SET prices = '{1000000}' WHERE id = 1",
        "UPDATE visits SET sizes = ARRAY['a'] WHERE id = 1",
        "UPDATE visits SET mac = '08002b01020g' WHERE id = 1",
        "UPDATE visits SET at = '25:00' WHERE id = 1",
        "UPDATE visits SET span = '1 dayz' WHERE id = 1",
        "UPDATE visits SET days = ARRAY['2024-01-01'] WHERE id = 1",
    ])?;
    same_with(&[
        (
            "UPDATE visits SET at = $1, zoned = $2, span = $3 WHERE id = 1 RETURNING at, zoned, span",
            &[
                Some("01:02:03.4567"),
                Some("01:02+03"),
                Some("1 mon 2 days 03:04"),
            ],
        ),
        (
            "UPDATE visits SET tags = $1, prices = $2 WHERE id = 2 RETURNING tags, prices",
            &[Some("{{x,y},{NULL,\"\"}}"), Some("{1.005}")],
        ),
    ])
}

#[test]
fn the_inside_of_arrays_and_intervals_is_refused() -> Result<()> {
    refused(&[
        "SELECT id FROM visits WHERE 'a' = ANY(tags)",
        "SELECT tags[1] FROM visits",
        "SELECT id FROM visits WHERE tags @> '{a}'",
        "SELECT unnest(tags) FROM visits",
        "SELECT id FROM visits WHERE tags = ANY('{{a,b}}')",
        "SELECT span + '1 day' FROM visits",
        "SELECT extract(hour from at) FROM visits",
        "SELECT id FROM visits WHERE host << '10.0.0.0/8'",
        "INSERT INTO visits (id, at) VALUES (9, 'now')",
    ])
}
