//! Made-up customers: the same ones every time, from their number alone.

const FIRST: [&str; 16] = [
    "Ada", "Bela", "Chidi", "Dana", "Emeka", "Fatima", "Goran", "Hana", "Ines", "Jonas", "Keiko",
    "Lars", "Mina", "Nuno", "Olga", "Priya",
];
const LAST: [&str; 16] = [
    "Abara",
    "Brandt",
    "Castro",
    "Dubois",
    "Eriksen",
    "Fischer",
    "Garcia",
    "Haddad",
    "Ivanova",
    "Jensen",
    "Kowalski",
    "Lindqvist",
    "Moreau",
    "Novak",
    "Okafor",
    "Petrov",
];
const TENANTS: u32 = 3;

/// One customer.
#[derive(Debug)]
pub(super) struct Customer {
    id: u32,
    tenant: u32,
    name: String,
    email: String,
    ssn: String,
    born: String,
    notes: Option<String>,
}

/// The customer with this number, from 1.
pub(super) fn make(id: u32) -> Customer {
    let n = (id - 1) as usize;
    let (first, last) = (
        FIRST[n % FIRST.len()],
        LAST[(n / FIRST.len() + n) % LAST.len()],
    );
    // A fixed multiplicative hash spreads the digits; nothing here is secret.
    let mixed = id.wrapping_mul(2_654_435_761);
    Customer {
        id,
        tenant: 1 + id % TENANTS,
        name: format!("{first} {last}"),
        email: format!(
            "{}.{}.{id}@example.com",
            first.to_lowercase(),
            last.to_lowercase()
        ),
        ssn: format!(
            "{:03}-{:02}-{:04}",
            100 + mixed % 800,
            10 + (mixed >> 8) % 90,
            1000 + (mixed >> 12) % 9000
        ),
        born: format!(
            "{:04}-{:02}-{:02}",
            1940 + (mixed >> 4) % 65,
            1 + (mixed >> 10) % 12,
            1 + (mixed >> 16) % 28
        ),
        notes: id.is_multiple_of(5).then(|| {
            format!(
                "{{\"vip\": {}, \"orders\": {}}}",
                id.is_multiple_of(35),
                mixed % 40
            )
        }),
    }
}

/// An INSERT of these customers, as an application would write it.
pub(super) fn insert(customers: &[Customer]) -> String {
    let rows: Vec<String> = customers
        .iter()
        .map(|c| {
            let notes = c
                .notes
                .as_ref()
                .map_or_else(|| "NULL".to_owned(), |n| format!("'{n}'"));
            format!(
                "({}, {}, '{}', '{}', '{}', '{}', {notes})",
                c.id, c.tenant, c.name, c.email, c.ssn, c.born
            )
        })
        .collect();
    format!(
        "INSERT INTO customers (id, tenant_id, name, email, ssn, born, notes) VALUES {}",
        rows.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn customers_are_the_same_every_time_and_differ() {
        assert_eq!(make(1).email, "ada.abara.1@example.com");
        assert_eq!(make(7).ssn, make(7).ssn);
        assert_ne!(make(7).ssn, make(8).ssn);
    }
}
