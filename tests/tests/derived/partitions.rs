//! Partitioned tables and inheritance: the policy names the parent, its partitions and children are protected with it,
//! by whichever name a statement reaches the rows.

use anyhow::Result;

use crate::{same, same_with, scripts};

#[test]
fn rows_are_reached_by_parent_and_partition() -> Result<()> {
    same(&[
        "SELECT * FROM events ORDER BY id",
        "SELECT * FROM events_eu ORDER BY id",
        "SELECT who FROM events WHERE who = 'ada'",
        "SELECT who, id FROM events_us WHERE who = 'eve'",
        "SELECT id FROM ONLY events_eu WHERE who IN ('ada', 'bob') ORDER BY id",
        "SELECT who, count(*) FROM events GROUP BY who",
        "SELECT DISTINCT who FROM events_rest",
        "SELECT e.id, u.id FROM events_eu e JOIN events_us u ON u.who = e.who ORDER BY 1, 2",
        "INSERT INTO events (id, region, who) VALUES (20, 'eu', 'zoe') RETURNING *",
        "INSERT INTO events_us (id, region, who) VALUES (21, 'us', 'zoe') RETURNING *",
        "INSERT INTO events_us VALUES ('dan', 22, 'us') RETURNING *",
        "INSERT INTO events_us VALUES ('dan', 22, 'eu')",
        "INSERT INTO events (id, region, who) VALUES (1, 'eu', 'ada') ON CONFLICT (region, who) DO NOTHING",
        "INSERT INTO events (id, region, who) VALUES (30, 'eu', 'ada')",
        "UPDATE events SET region = 'us' WHERE who = 'bob' RETURNING *",
        "UPDATE events SET who = 'new' WHERE id = 1 RETURNING *",
        "UPDATE events_eu SET who = 'new' WHERE who = 'ada' RETURNING *",
        "DELETE FROM events_us WHERE who = 'eve' RETURNING *",
        "DELETE FROM events WHERE who IS NULL RETURNING id",
        "SELECT id, mail FROM persons WHERE mail = 'c@x' ORDER BY id",
        "SELECT * FROM staff ORDER BY id",
        "SELECT id FROM ONLY persons WHERE mail = 'c@x'",
        "SELECT level FROM staff WHERE mail = 'c@x'",
        "INSERT INTO staff (id, mail, level) VALUES (9, 'd@x', 3) RETURNING *",
        "UPDATE persons SET mail = 'e@x' RETURNING id, mail",
    ])
}

#[test]
fn parameters_of_partitions() -> Result<()> {
    same_with(&[
        ("SELECT id FROM events_us WHERE who = $1", &[Some("eve")]),
        (
            "INSERT INTO events_us VALUES ($1, $2, 'us') RETURNING who",
            &[Some("x"), Some("40")],
        ),
        (
            "SELECT * FROM staff WHERE mail = ANY ($1)",
            &[Some("{c@x}")],
        ),
    ])
}

#[test]
fn partitions_and_children_are_made() -> Result<()> {
    scripts(&[
        &[
            "CREATE TABLE events_sa PARTITION OF events FOR VALUES IN ('sa')",
            "INSERT INTO events (id, region, who) VALUES (50, 'sa', 'zed'), (51, 'sa', 'ada') RETURNING *",
            "SELECT id FROM events WHERE who = 'zed'",
            "SELECT * FROM events_sa ORDER BY id",
            "SELECT who, count(*) FROM events GROUP BY who",
            "INSERT INTO events (id, region, who) VALUES (52, 'sa', 'zed') ON CONFLICT (region, who) DO NOTHING",
            "ALTER TABLE events DETACH PARTITION events_sa",
            "SELECT * FROM events_sa ORDER BY id",
            "SELECT count(*) FROM events",
            "!SELECT count(DISTINCT who) FROM events_sa",
        ],
        &[
            "CREATE TABLE stage (LIKE customers INCLUDING DEFAULTS, n int)",
            "INSERT INTO stage (id, region, email) SELECT id, region, email FROM customers",
            "SELECT id, email FROM stage ORDER BY id",
            "!INSERT INTO stage (id, region, email) VALUES (9, 'eu', 'x')",
        ],
        &[
            "CREATE TABLE interns (months int) INHERITS (persons)",
            "SELECT id, mail FROM persons ORDER BY id",
            "SELECT count(*) FROM interns",
        ],
        &["!CREATE TABLE stage (LIKE customers, UNIQUE (email))"],
        &["!CREATE TABLE events_sa PARTITION OF events (who DEFAULT 'x') FOR VALUES IN ('sa')"],
    ])
}

#[test]
fn partitions_are_attached_if_their_values_fit() -> Result<()> {
    scripts(&[
        &[
            "CREATE TABLE events_sa (LIKE events)",
            "INSERT INTO events_sa SELECT id, 'sa', who FROM events WHERE region = 'us'",
            "ALTER TABLE events ATTACH PARTITION events_sa FOR VALUES IN ('sa')",
            "SELECT id, region, who FROM events WHERE who = 'ada' ORDER BY id, region",
            "SELECT id FROM events_sa WHERE who = 'eve'",
            "INSERT INTO events (id, region, who) VALUES (52, 'sa', 'ada') ON CONFLICT (region, who) DO NOTHING",
            "INSERT INTO events (id, region, who) VALUES (53, 'sa', 'zed'), (54, 'sa', NULL) RETURNING *",
            "SELECT who, count(*) FROM events GROUP BY who",
        ],
        &[
            "CREATE TABLE events_sa (LIKE events)",
            "ALTER TABLE events ATTACH PARTITION events_sa FOR VALUES IN ('sa')",
            "INSERT INTO events (id, region, who) VALUES (52, 'sa', 'ada')",
            "SELECT id, region FROM events WHERE who = 'ada' ORDER BY id, region",
        ],
        &[
            "CREATE TABLE events_sa (LIKE events)",
            "INSERT INTO events_sa SELECT id, 'us', who FROM events WHERE region = 'us'",
            "ALTER TABLE events ATTACH PARTITION events_sa FOR VALUES IN ('sa')",
        ],
        // Values that were sealed for another column: their terms are others.
        &[
            "CREATE TABLE events_sa (LIKE events)",
            "INSERT INTO events_sa SELECT id, 'sa', customer_email FROM orders",
            "!ALTER TABLE events ATTACH PARTITION events_sa FOR VALUES IN ('sa')",
        ],
    ])
}
