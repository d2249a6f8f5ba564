//! `credentials.toml` and the variables that stand in for it.

use std::fmt;

use indexmap::IndexMap;
use secrecy::{ExposeSecret as _, SecretString};

use crate::config::Config;
use crate::problem::{Problems, suggestion};
use crate::reader::Reader;
use crate::section::Section;
use crate::sections::backends::{BackendConfig, read_base_url, warn_of_redirection};
use crate::sections::{mesh, provider, redis, storage};
use crate::value::{Value, table_at};

/// All credentials, by section.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    sections: IndexMap<String, Credential>,
}

/// What one section of credentials.toml (or a variable) says.
#[derive(Clone)]
pub struct Credential {
    /// The section's name.
    pub name: String,
    /// The keys, in the order to use them; empty where none is needed.
    pub api_keys: Vec<SecretString>,
    /// Where the provider is found; without a final slash.
    pub base_url: Option<String>,
    /// The organisation the calls are billed to.
    pub organization_id: Option<String>,
    /// The project the calls are billed to.
    pub project_id: Option<String>,
    /// The version of the provider's API.
    pub version: Option<String>,
}

impl Credentials {
    /// Reads all credentials.
    ///
    /// Problems of the file itself (somebody else could read it, or it is no TOML) are
    /// reported here, so that processes which need no keys start without them.
    pub fn read(reader: &Reader) -> Self {
        for problem in &reader.config().inner.credential_problems {
            reader.push(problem.clone());
        }
        let section = reader.section("credentials");
        let mut sections = IndexMap::new();
        for name in section.entries() {
            let table = section.subsection(&name);
            if name == storage::CREDENTIALS {
                storage::url_of_credentials(&table);
                continue;
            }
            if name == redis::CREDENTIALS {
                redis::url_of_credentials(&table);
                continue;
            }
            if name == mesh::CREDENTIALS {
                mesh::secret_of_credentials(&table);
                continue;
            }
            check_name(reader, &section, &name);
            sections.insert(name, Credential::read(reader, &table));
        }
        section.finish();
        Self { sections }
    }

    /// Reads them anew, as they would be at a start now.
    ///
    /// # Errors
    /// Everything that would keep a process from starting with them; never a value.
    pub fn read_again(config: &Config) -> Result<Self, Problems> {
        let reader = config.inner.loader.clone().load()?.reader();
        let credentials = Self::read(&reader);
        reader.finish()?;
        Ok(credentials)
    }

    /// The credential of this section.
    pub fn get(&self, section: &str) -> Option<&Credential> {
        self.sections.get(section)
    }

    /// All credentials, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Credential> {
        self.sections.values()
    }

    /// The credential a backend uses: its section, else one of the same vendor
    /// (`claude`, `anthropic`, `opus_self`; `gemini`, `google`; `kimi`, `moonshot`). One with
    /// a key is preferred to one without.
    pub fn for_backend(&self, backend: &BackendConfig) -> Option<&Credential> {
        let group = provider::credential_group(&backend.credentials);
        let written = || group.iter().filter_map(|name| self.sections.get(*name));
        written().find(|credential| !credential.api_keys.is_empty()).or_else(|| written().next())
    }
}

impl FromIterator<Credential> for Credentials {
    fn from_iter<I: IntoIterator<Item = Credential>>(credentials: I) -> Self {
        let named = credentials.into_iter().map(|one| (one.name.clone(), one));
        Self { sections: named.collect() }
    }
}

impl Credential {
    /// A credential that is one key.
    pub fn new(name: &str, api_key: SecretString) -> Self {
        Self {
            name: name.to_owned(),
            api_keys: vec![api_key],
            base_url: None,
            organization_id: None,
            project_id: None,
            version: None,
        }
    }

    fn read(reader: &Reader, table: &Section<'_>) -> Self {
        // Read for backends that name no model themselves.
        let _ = table.opt_string("model");
        warn_of_redirection(reader, table, &["base_url", "api_key_file"]);
        Self {
            name: table.name().to_owned(),
            api_keys: read_keys(table),
            base_url: read_base_url(table, "base_url"),
            organization_id: table.opt_string("organization_id"),
            project_id: table.opt_string("project_id"),
            version: table.opt_string("version"),
        }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<String> = self.api_keys.iter().map(masked).collect();
        f.debug_struct("Credential")
            .field("name", &self.name)
            .field("api_keys", &keys)
            .field("base_url", &self.base_url)
            .finish_non_exhaustive()
    }
}

/// A key as it may be shown: its first three and last four characters if it is long enough
/// that these tell nothing, else only that there is one.
pub fn masked(key: &SecretString) -> String {
    const LONG_ENOUGH: usize = 20;
    let chars: Vec<char> = key.expose_secret().chars().collect();
    if chars.len() < LONG_ENOUGH {
        return "…".to_owned();
    }
    let head: String = chars.iter().take(3).collect();
    let tail: String = chars.iter().skip(chars.len() - 4).collect();
    format!("{head}…{tail}")
}

/// A section nobody can use is a typing error.
fn check_name(reader: &Reader, section: &Section<'_>, name: &str) {
    let mut known: Vec<&str> = referenced_sections(reader).collect();
    known.extend(provider::ids());
    if !known.contains(&name) {
        let near = suggestion(name, known.iter().copied());
        section.problem(name, &format!("no provider or backend uses this section{near}"));
    }
}

/// The sections that backends name.
fn referenced_sections(reader: &Reader) -> impl Iterator<Item = &str> {
    let backends = table_at(reader.root(), &["backends".to_owned()]);
    let tables = backends.into_iter().flatten().filter_map(|(_, node)| node.as_table());
    tables.filter_map(|table| match &table.get("credentials")?.value {
        Value::String(name) => Some(name.as_str()),
        _ => None,
    })
}

fn read_keys(table: &Section<'_>) -> Vec<SecretString> {
    const FORMS: [&str; 3] = ["api_key", "api_keys", "api_key_file"];
    let given: Vec<&str> = FORMS.into_iter().filter(|form| table.has(form)).collect();
    if let [_, second, ..] = given[..] {
        table.problem(second, "give one of api_key, api_keys and api_key_file");
    }
    let one = table.opt_secret("api_key").into_iter();
    let one = one.filter(|key| check_key(table, "api_key", key));
    let many = table.opt_string_list("api_keys").unwrap_or_default().into_iter();
    let many = many.map(|key| SecretString::from(key.trim()));
    let many = many.filter(|key| check_key(table, "api_keys", key));
    one.map(|key| SecretString::from(key.expose_secret().trim())).chain(many).chain(key_from_file(table)).collect()
}

/// A key a mounted file holds.
fn key_from_file(table: &Section<'_>) -> Option<SecretString> {
    const KEY: &str = "api_key_file";
    table.secret_file(KEY).filter(|key| check_key(table, KEY, key))
}

/// Whether it can be sent in a header. Never shows the key.
fn check_key(table: &Section<'_>, form: &str, key: &SecretString) -> bool {
    let key = key.expose_secret().trim();
    let message = if key.is_empty() {
        "this key is empty"
    } else if key.chars().any(|c| !c.is_ascii_graphic()) {
        "this key has blanks or other characters that no key has"
    } else {
        return true;
    };
    table.problem(form, message);
    false
}
