//! API keys. Only SHA-256 hashes are kept: a key is 32 random bytes, so a slow password hash adds nothing.

use std::{collections::HashSet, fmt::Write as _, path::Path, sync::Arc};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::rate::Rate;

/// Shortest secret accepted from the environment, in bytes; people choose short ones.
const MIN_SECRET: usize = 24;
/// Longest secret that is looked at, in bytes.
const MAX_SECRET: usize = 512;

/// What a key allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Post signals.
    Ingest,
    /// Read features, the registry and users.
    Read,
    /// Ask for tips and report reactions.
    Recommend,
    /// Everything.
    Admin,
}

impl Scope {
    /// Its name in key files and messages.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Ingest => "ingest",
            Scope::Read => "read",
            Scope::Recommend => "recommend",
            Scope::Admin => "admin",
        }
    }
}

/// Who is calling. An axum extractor on every route behind [`super::Gate::require`].
#[derive(Debug, Clone)]
pub struct Principal {
    name: Arc<str>,
    scopes: Arc<[Scope]>,
}

impl Principal {
    /// The caller of a server that has no keys: local, and allowed everything.
    pub fn local() -> Principal {
        Principal { name: "local".into(), scopes: [Scope::Admin].into() }
    }

    /// The name of the key, never the key.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the caller holds `scope`; `admin` holds all.
    pub fn allows(&self, scope: Scope) -> bool {
        self.scopes.iter().any(|held| *held == scope || *held == Scope::Admin)
    }
}

/// What is wrong with a set of keys. Names the key, never shows it.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file cannot be read.
    #[error("cannot read the key file {path}: {source}")]
    Unreadable {
        /// Which file.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// What is written there is wrong.
    #[error("{0}")]
    Invalid(String),
}

/// One key as known to the server.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) principal: Principal,
    pub(super) rate: Option<Rate>,
    hash: [u8; 32],
}

/// The keys a server knows. With none, the server is *open*: everything is allowed, and the caller of
/// [`Keys::is_open`] must keep it on loopback.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    keys: Vec<Key>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    key: Vec<KeyEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyEntry {
    name: String,
    sha256: String,
    scopes: Vec<Scope>,
    rate: Option<Rate>,
}

impl Keys {
    /// No keys: everything is allowed.
    pub fn open() -> Keys {
        Keys::default()
    }

    /// Reads a key file:
    ///
    /// ```toml
    /// [[key]]
    /// name = "phone-app"
    /// sha256 = "…64 hex digits…"
    /// scopes = ["ingest", "recommend"]
    /// rate = { per_second = 50.0, burst = 100 }   # optional
    /// ```
    pub fn load(path: &Path) -> Result<Keys, KeysError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| KeysError::Unreadable { path: path.display().to_string(), source })?;
        Keys::parse(&text).map_err(|e| KeysError::Invalid(format!("{}: {e}", path.display())))
    }

    /// Reads the text of a key file.
    pub fn parse(text: &str) -> Result<Keys, KeysError> {
        // Only the message: the error's full text quotes the line, which may be where a secret was pasted.
        let file: KeyFile = toml::from_str(text).map_err(|e| {
            let line = e.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
            KeysError::Invalid(format!("line {line} is no key file: {}", e.message()))
        })?;
        if file.key.is_empty() {
            return Err(KeysError::Invalid(
                "no `[[key]]` in it; a key file without keys would open the server".into(),
            ));
        }
        let mut keys = Keys::default();
        for entry in file.key {
            let hash = from_hex(&entry.sha256).ok_or_else(|| {
                KeysError::Invalid(format!(
                    "key `{}`: `sha256` must be 64 hex digits, the hash of the key",
                    entry.name
                ))
            })?;
            keys.add(entry.name, hash, entry.scopes, entry.rate)?;
        }
        Ok(keys)
    }

    /// Adds a key whose secret was handed in, as from the environment; only its hash is kept.
    pub fn add_secret(
        &mut self,
        name: &str,
        secret: &str,
        scopes: &[Scope],
        rate: Option<Rate>,
    ) -> Result<(), KeysError> {
        if !(MIN_SECRET..=MAX_SECRET).contains(&secret.len()) || !secret.bytes().all(|b| b.is_ascii_graphic())
        {
            return Err(KeysError::Invalid(format!(
                "key `{name}`: a secret is {MIN_SECRET} to {MAX_SECRET} printable ASCII characters without spaces"
            )));
        }
        self.add(name.to_owned(), sha256(secret), scopes.to_vec(), rate)
    }

    fn add(
        &mut self,
        name: String,
        hash: [u8; 32],
        scopes: Vec<Scope>,
        rate: Option<Rate>,
    ) -> Result<(), KeysError> {
        if name.is_empty() || scopes.is_empty() {
            return Err(KeysError::Invalid(format!("key `{name}`: it needs a name and at least one scope")));
        }
        if let Some(reason) = rate.and_then(|rate| rate.problem()) {
            return Err(KeysError::Invalid(format!("key `{name}`: {reason}")));
        }
        let names: HashSet<&str> = self.keys.iter().map(|key| key.principal.name()).collect();
        if names.contains(name.as_str()) {
            return Err(KeysError::Invalid(format!("key `{name}` stands there twice; names are unique")));
        }
        if self.keys.iter().any(|key| key.hash == hash) {
            return Err(KeysError::Invalid(format!(
                "key `{name}` has the hash of another key; make a new one"
            )));
        }
        self.keys.push(Key { principal: Principal { name: name.into(), scopes: scopes.into() }, rate, hash });
        Ok(())
    }

    /// Adds all of `other`'s keys.
    pub fn merge(&mut self, other: Keys) -> Result<(), KeysError> {
        for key in other.keys {
            let Principal { name, scopes } = key.principal;
            self.add(name.to_string(), key.hash, scopes.to_vec(), key.rate)?;
        }
        Ok(())
    }

    /// Whether there is no key, so that everything is allowed.
    pub fn is_open(&self) -> bool {
        self.keys.is_empty()
    }

    /// Makes a key out of 32 bytes of a cryptographic random source: the secret to hand out once, and its
    /// hash for the key file.
    pub fn generate(random: [u8; 32]) -> (String, String) {
        let secret = format!("kairos_{}", to_hex(&random));
        let hash = to_hex(&sha256(&secret));
        (secret, hash)
    }

    /// The key of this secret. Every hash is compared, each in constant time, whatever matches.
    pub(super) fn find(&self, secret: &str) -> Option<(usize, &Key)> {
        if secret.len() > MAX_SECRET {
            return None;
        }
        let hash = sha256(secret);
        let mut found = None;
        for (index, key) in self.keys.iter().enumerate() {
            if bool::from(key.hash.ct_eq(&hash)) {
                found = Some((index, key));
            }
        }
        found
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter()
    }
}

fn sha256(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digit = |c: u8| char::from(c).to_digit(16);
        *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, hash: &str) -> String {
        format!("[[key]]\nname = \"{name}\"\nsha256 = \"{hash}\"\nscopes = [\"ingest\"]\n")
    }

    #[test]
    fn a_generated_key_is_found_by_its_secret_only() {
        let (secret, hash) = Keys::generate([7; 32]);
        let keys = Keys::parse(&file("app", &hash)).unwrap();
        assert_eq!(keys.find(&secret).unwrap().1.principal.name(), "app");
        assert!(keys.find(&secret[1..]).is_none());
        assert!(keys.find(&hash).is_none(), "the hash is no key");
        assert!(!format!("{keys:?}").contains(&secret));
    }

    #[test]
    fn admin_implies_every_scope_and_others_only_themselves() {
        let caller = |scope| Principal { name: "x".into(), scopes: [scope].into() };
        for scope in [Scope::Ingest, Scope::Read, Scope::Recommend, Scope::Admin] {
            assert!(caller(Scope::Admin).allows(scope));
            assert_eq!(caller(Scope::Ingest).allows(scope), scope == Scope::Ingest);
        }
    }

    #[test]
    fn mistakes_name_the_key_and_never_show_it() {
        let hash = "ab".repeat(32);
        for (text, expected) in [
            (String::new(), "key"),
            ("key = []".into(), "would open the server"),
            (file("app", "plainly-the-secret"), "64 hex digits"),
            (file("app", &hash) + &file("app", &"cd".repeat(32)), "twice"),
            (file("app", &hash) + &file("web", &hash), "hash of another key"),
            (file("app", &hash).replace("\"ingest\"", "\"write\""), "write"),
            (file("app", &hash) + "rate = { per_second = 0.0, burst = 1 }", "per_second"),
            (file("app", &hash) + "secrets = \"plainly-the-secret\"", "line 5"),
        ] {
            let message = Keys::parse(&text).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
            assert!(!message.contains("plainly-the-secret"), "{message}");
        }
    }

    #[test]
    fn short_secrets_are_refused() {
        let mut keys = Keys::open();
        assert!(keys.add_secret("env", "hunter2", &[Scope::Admin], None).is_err());
        assert!(keys.is_open());
        keys.add_secret("env", &"s".repeat(32), &[Scope::Admin], None).unwrap();
        assert!(!keys.is_open());
    }
}
