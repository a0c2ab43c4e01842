//! The commented files that `pgveil init` writes. They show every known key; a test holds them against the tables.

/// `pgveil.toml`: works as it stands with a Postgres on this machine and a `root.key` beside it.
pub const PGVEIL_TOML: &str = include_str!("templates/pgveil.toml");

/// `policy.toml`: protects nothing until its lines are uncommented.
pub const POLICY_TOML: &str = include_str!("templates/policy.toml");

#[cfg(test)]
mod tests {
    use std::path::Path;

    use toml::de::{DeTable, DeValue};

    use super::*;
    use crate::{
        PolicyFile, Settings,
        known::{Key, Need, Section, Shape, Support},
        policy,
        settings::{self, TlsMode},
    };

    /// The template with every commented-out key and section in force.
    fn uncommented(template: &'static str) -> String {
        let key = |line: &str| line.starts_with(|c: char| c.is_ascii_lowercase() || c == '[');
        let in_force = |line: &'static str| {
            line.strip_prefix('#')
                .filter(|rest| key(rest))
                .unwrap_or(line)
        };
        template
            .lines()
            .flat_map(|line| [in_force(line), "\n"])
            .collect()
    }

    #[test]
    fn the_templates_are_in_force_as_they_stand() {
        let settings = Settings::parse(PGVEIL_TOML, Path::new("/etc/pgveil/pgveil.toml")).unwrap();
        assert_eq!(settings.listen, "127.0.0.1:6432");
        assert_eq!(settings.policy, Path::new("/etc/pgveil/policy.toml"));
        assert_eq!(settings.upstream.tls, TlsMode::Prefer);
        assert_eq!(settings.cache.ttl.as_secs(), 300);
        assert!(
            PolicyFile::parse(POLICY_TOML, Path::new("policy.toml"))
                .unwrap()
                .tables
                .is_empty()
        );
    }

    #[test]
    fn the_policy_works_when_uncommented() {
        let policy =
            PolicyFile::parse(&uncommented(POLICY_TOML), Path::new("policy.toml")).unwrap();
        assert_eq!(policy.tables[0].columns.len(), 3);
    }

    #[test]
    fn the_settings_are_refused_only_as_marked_when_uncommented() {
        let text = uncommented(PGVEIL_TOML);
        let findings = Settings::parse(&text, Path::new("pgveil.toml")).unwrap_err();
        // What works is not marked.
        let marked = { text.lines().zip(1..) }
            .filter(|(line, _)| line.contains("(not supported yet)") && !line.starts_with('#'));
        for (line, number) in marked {
            let refused = { findings.0.iter() }
                .any(|finding| finding.at.as_ref().is_some_and(|at| at.line == number));
            assert!(refused, "{line}");
        }
        for finding in findings.0 {
            let expected = [
                "not supported yet",
                "has both",
                "does not check certificates",
            ];
            assert!(
                expected.iter().any(|part| finding.message.contains(part)),
                "{finding}"
            );
            if finding.message.contains("not supported yet") {
                let line = finding.at.unwrap().line;
                let near: Vec<_> = text.lines().skip(line.saturating_sub(2)).take(2).collect();
                assert!(near.concat().contains("(not supported yet)"), "{near:?}");
            }
        }
    }

    #[test]
    fn every_known_key_stands_in_the_templates_with_its_default() {
        for (template, top) in [(PGVEIL_TOML, &settings::TOP), (POLICY_TOML, &policy::TOP)] {
            let text = uncommented(template);
            let root = DeTable::parse(&text).unwrap();
            let value = toml::Spanned::new(0..0, DeValue::Table(root.into_inner()));
            covers(&text, top, &[&value]);
        }
    }

    type Spanned<'d, 't> = &'d toml::Spanned<DeValue<'t>>;

    fn covers(text: &str, section: &Section, tables: &[Spanned<'_, '_>]) {
        assert!(
            !tables.is_empty(),
            "{} is not in the template",
            section.header
        );
        for key in section.keys {
            has(text, section.header, key, tables);
        }
        for variant in section.variants {
            let of_kind = |table: &&Spanned<'_, '_>| {
                table
                    .get_ref()
                    .get("kind")
                    .and_then(|kind| kind.get_ref().as_str())
                    == Some(variant.word.word)
            };
            let tables: Vec<_> = tables.iter().filter(of_kind).copied().collect();
            for key in variant.keys {
                has(text, variant.word.word, key, &tables);
            }
        }
        for inner in section.sections {
            let found = tables
                .iter()
                .filter_map(|table| table.get_ref().get(inner.name));
            let tables: Vec<Spanned<'_, '_>> = match inner.shape {
                Shape::One => found.collect(),
                Shape::Named => found
                    .flat_map(|t| t.get_ref().as_table().unwrap().values())
                    .collect(),
                Shape::Many => found
                    .flat_map(|t| t.get_ref().as_array().unwrap().iter())
                    .collect(),
            };
            covers(text, inner, &tables);
        }
    }

    fn has(text: &str, place: &str, key: &Key, tables: &[Spanned<'_, '_>]) {
        let values: Vec<_> = tables
            .iter()
            .filter_map(|table| table.get_ref().get(key.name))
            .collect();
        assert!(
            !values.is_empty(),
            "`{}` in {place} is not in the template",
            key.name
        );
        if let (Need::Default(default), Support::Since(_), false) =
            (&key.need, key.support, key.name == "search")
        {
            assert_eq!(
                &text[values[0].span()],
                *default,
                "`{}` in {place}",
                key.name
            );
        }
    }
}
