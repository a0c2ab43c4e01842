//! Scope paths: `platform`, `tenant:acme`, `tenant:acme/project:crm/env:prod` (design: five levels).

use std::{borrow::Cow, fmt, fmt::Write, str::FromStr};

/// The longest scope path, in bytes of its text.
pub const MAX_SCOPE_BYTES: usize = 1024;

/// A resolved scope: which keys a value belongs to. Ordered and hashable, so that it can name a cache entry.
///
/// The text form is canonical: `platform`, or `tenant:T` followed by an optional `/project:P` and an
/// optional `/env:E`. Names are percent-encoded outside `[A-Za-z0-9._-]`, so that two different
/// inputs never make one path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScopePath(String);

/// Why a text is not a scope path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// Longer than [`MAX_SCOPE_BYTES`].
    #[error("it is longer than {MAX_SCOPE_BYTES} bytes")]
    TooLong,
    /// Not `platform`, and does not begin with a tenant.
    #[error("it must be `platform` or begin with `tenant:NAME`")]
    NoTenant,
    /// Something other than `/project:P`, then `/env:E`.
    #[error(
        "after `tenant:NAME` may follow `/project:NAME`, then `/env:NAME`, each once and in this order"
    )]
    LevelsOutOfOrder,
    /// `tenant:` without a name.
    #[error("the name after `{level}:` is empty")]
    EmptyName {
        /// tenant, project or env.
        level: &'static str,
    },
    /// A character that must be percent-encoded, or an encoding that is not the canonical one.
    #[error(
        "the name after `{level}:` must be percent-encoded UTF-8: letters, digits and `._-` as they are, every other byte as % and two capital hex digits, such as %C3%A9"
    )]
    NotEncoded {
        /// tenant, project or env.
        level: &'static str,
    },
}

impl ScopePath {
    /// The default of the whole deployment.
    pub fn platform() -> ScopePath {
        ScopePath("platform".to_owned())
    }

    /// Reads the canonical text: what [`Display`](fmt::Display) writes, and what a scope template yields whose
    /// values went through [`encode_name`]. Anything else is an error, so that a scope has one spelling.
    pub fn parse(text: &str) -> Result<ScopePath, ScopeError> {
        if text.len() > MAX_SCOPE_BYTES {
            return Err(ScopeError::TooLong);
        }
        if text == "platform" {
            return Ok(ScopePath::platform());
        }
        let mut parts = text.split('/');
        let tenant = parts.next().and_then(|part| part.strip_prefix("tenant:"));
        check_name("tenant", tenant.ok_or(ScopeError::NoTenant)?)?;
        let mut part = parts.next();
        for (level, prefix) in [("project", "project:"), ("env", "env:")] {
            if let Some(name) = part.and_then(|part| part.strip_prefix(prefix)) {
                check_name(level, name)?;
                part = parts.next();
            }
        }
        match part {
            None => Ok(ScopePath(text.to_owned())),
            Some(_) => Err(ScopeError::LevelsOutOfOrder),
        }
    }

    /// A path from names as people and rows hold them; they are percent-encoded here.
    pub fn of(
        tenant: &str,
        project: Option<&str>,
        env: Option<&str>,
    ) -> Result<ScopePath, ScopeError> {
        let mut text = format!("tenant:{}", encode_name(tenant));
        for (level, name) in [("project", project), ("env", env)] {
            if let Some(name) = name {
                text.push_str(&format!("/{level}:{}", encode_name(name)));
            }
        }
        ScopePath::parse(&text)
    }

    /// Every scope whose settings hold here, the least specific first and this one last: platform, tenant, tenant
    /// environment, project, project environment.
    pub fn chain(&self) -> Vec<ScopePath> {
        let mut chain = vec![ScopePath::platform()];
        let mut parts = self.0.split('/');
        let tenant = parts.next().filter(|first| first.starts_with("tenant:"));
        let Some(tenant) = tenant else {
            return chain;
        };
        let (mut project, mut env) = (None, None);
        for part in parts {
            match part.strip_prefix("project:") {
                Some(_) => project = Some(part),
                None => env = Some(part),
            }
        }
        chain.push(ScopePath(tenant.to_owned()));
        chain.extend(env.map(|env| ScopePath(format!("{tenant}/{env}"))));
        let project = project.map(|project| format!("{tenant}/{project}"));
        chain.extend(project.clone().map(ScopePath));
        let both = project.zip(env);
        chain.extend(both.map(|(project, env)| ScopePath(format!("{project}/{env}"))));
        chain
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ScopePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for ScopePath {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for ScopePath {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<ScopePath, ScopeError> {
        ScopePath::parse(text)
    }
}

/// Percent-encodes a name: letters, digits and `._-` stay, every other byte of its UTF-8 becomes `%XX`.
pub fn encode_name(name: &str) -> Cow<'_, str> {
    if name.bytes().all(stays) {
        return Cow::Borrowed(name);
    }
    let mut encoded = String::with_capacity(name.len() + 8);
    for byte in name.bytes() {
        if stays(byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("writing to a String cannot fail");
        }
    }
    Cow::Owned(encoded)
}

fn stays(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

fn check_name(level: &'static str, name: &str) -> Result<(), ScopeError> {
    if name.is_empty() {
        return Err(ScopeError::EmptyName { level });
    }
    let decoded = decode_name(name).ok_or(ScopeError::NotEncoded { level })?;
    // One spelling only: a letter written as %41 and small hex digits do not survive the way back.
    if encode_name(&decoded) == name {
        Ok(())
    } else {
        Err(ScopeError::NotEncoded { level })
    }
}

fn decode_name(name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let high = char::from(rest.next()?).to_digit(16)?;
            let low = char::from(rest.next()?).to_digit(16)?;
            bytes.push((high * 16 + low) as u8);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_the_five_levels() {
        for text in [
            "platform",
            "tenant:acme",
            "tenant:acme/env:prod",
            "tenant:acme/project:crm",
            "tenant:acme/project:crm/env:prod",
            "tenant:a.b-c_D9",
            "tenant:caf%C3%A9/env:%2F",
            "tenant:platform",
        ] {
            assert_eq!(ScopePath::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(ScopePath::platform().as_str(), "platform");
    }

    #[test]
    fn refuses_everything_else() {
        use ScopeError::*;
        let long = format!("tenant:{}", "a".repeat(MAX_SCOPE_BYTES));
        for (text, error) in [
            ("", NoTenant),
            ("Platform", NoTenant),
            ("platform/env:prod", NoTenant),
            ("env:prod", NoTenant),
            ("project:crm", NoTenant),
            (" tenant:acme", NoTenant),
            ("tenant:", EmptyName { level: "tenant" }),
            ("tenant:a/env:", EmptyName { level: "env" }),
            ("tenant:a/env:p/project:c", LevelsOutOfOrder),
            ("tenant:a/env:p/env:p", LevelsOutOfOrder),
            ("tenant:a/project:c/project:c", LevelsOutOfOrder),
            ("tenant:a/", LevelsOutOfOrder),
            ("tenant:a/tenant:b", LevelsOutOfOrder),
            ("tenant:a/region:eu", LevelsOutOfOrder),
            ("tenant:a b", NotEncoded { level: "tenant" }),
            ("tenant:caf\u{e9}", NotEncoded { level: "tenant" }),
            ("tenant:%c3%a9", NotEncoded { level: "tenant" }),
            ("tenant:%41", NotEncoded { level: "tenant" }),
            ("tenant:%", NotEncoded { level: "tenant" }),
            ("tenant:%4", NotEncoded { level: "tenant" }),
            ("tenant:%+1", NotEncoded { level: "tenant" }),
            ("tenant:%FF", NotEncoded { level: "tenant" }),
            ("tenant:a/project:b:c", NotEncoded { level: "project" }),
            (&long, TooLong),
        ] {
            assert_eq!(ScopePath::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn the_chain_goes_from_the_platform_to_the_scope() {
        let chain = |text: &str| {
            let chain = ScopePath::parse(text).unwrap().chain();
            let texts: Vec<String> = chain.iter().map(ScopePath::to_string).collect();
            texts.join(" > ")
        };
        assert_eq!(chain("platform"), "platform");
        assert_eq!(chain("tenant:a"), "platform > tenant:a");
        assert_eq!(
            chain("tenant:a/env:e"),
            "platform > tenant:a > tenant:a/env:e"
        );
        assert_eq!(
            chain("tenant:a/project:p"),
            "platform > tenant:a > tenant:a/project:p"
        );
        assert_eq!(
            chain("tenant:a/project:p/env:e"),
            "platform > tenant:a > tenant:a/env:e > tenant:a/project:p > tenant:a/project:p/env:e"
        );
    }

    #[test]
    fn two_different_names_never_make_one_path() {
        let of = |tenant, project| ScopePath::of(tenant, Some(project), None).unwrap();
        assert_eq!(
            of("a/project:b", "c").as_str(),
            "tenant:a%2Fproject%3Ab/project:c"
        );
        assert_ne!(of("a%2F", "c"), of("a/", "c"));
        assert_ne!(of("A", "c"), of("a", "c"));
    }

    proptest! {
        #[test]
        fn any_name_survives_the_way_there_and_back(tenant in ".{1,40}", env in ".{1,40}") {
            let scope = ScopePath::of(&tenant, None, Some(&env)).unwrap();
            prop_assert_eq!(scope.as_str().parse::<ScopePath>().unwrap(), scope.clone());
            let rest = scope.as_str().strip_prefix("tenant:").unwrap();
            let (first, second) = rest.split_once("/env:").unwrap();
            prop_assert_eq!(decode_name(first).unwrap(), tenant);
            prop_assert_eq!(decode_name(second).unwrap(), env);
        }

        #[test]
        fn any_text_is_a_path_or_an_error(text in ".{0,80}") {
            if let Ok(scope) = ScopePath::parse(&text) {
                prop_assert_eq!(scope.to_string(), text);
            }
        }

        #[test]
        fn nearly_right_text_is_a_path_or_an_error(text in "(tenant:|project:|env:|/|%|[a-fA-F0-9]){0,12}") {
            if let Ok(scope) = ScopePath::parse(&text) {
                prop_assert_eq!(scope.to_string(), text);
            }
        }
    }
}
