//! Search for repositories: Docker's index protocol of old, which Docker Hub still speaks (`GET /v1/search`).

use crate::client::Client;
use crate::error::Error;
use crate::transport::Request;
use serde::{Deserialize, Serialize};
use tare_spec::reference::DEFAULT_REGISTRY;

/// Where Docker Hub is searched.
const DEFAULT_INDEX: &str = "https://index.docker.io";
/// Largest list of results in bytes.
const RESULTS_LIMIT: u64 = 4 << 20;
/// Most results that can be asked for (Docker's limit).
const MOST: u32 = 100;

/// A repository that a search found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SearchResult {
    /// Its name.
    pub name: String,
    /// What its owner says of it.
    pub description: String,
    /// How many users starred it.
    pub star_count: u64,
    /// Whether it is one of Docker's own.
    pub is_official: bool,
    /// Whether it is built by Docker Hub; no longer in use.
    pub is_automated: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Results {
    results: Option<Vec<SearchResult>>,
}

impl Client {
    /// Searches a registry (`docker.io` or another) for repositories, without control characters in what it says.
    ///
    /// `limit` is 1 to 100. Registries that cannot search but list their repositories are asked for those whose name
    /// contains the term.
    ///
    /// # Errors
    /// [`Error`]: not reachable; [`Error::Unsupported`] by registries that can neither.
    pub fn search(&self, registry: &str, term: &str, limit: u32) -> Result<Vec<SearchResult>, Error> {
        let limit = limit.clamp(1, MOST);
        let transport = &self.shared.transport;
        let base = if registry == DEFAULT_REGISTRY {
            crate::url::Url::parse(DEFAULT_INDEX).expect("a constant URL")
        } else {
            self.shared.session(&self.shared.registry(registry))?.base.clone()
        };
        let url = base.join("/v1/search").ok_or_else(|| Error::InvalidRegistry { registry: registry.to_owned() })?;
        let url = url.with_query("q", term).with_query("n", &limit.to_string());
        // Without credentials: what is public is public.
        let answer = transport.send(&url, &Request::new("Get"), None)?;
        let mut found = match answer.status() {
            200 => {
                let shown = answer.url.shown();
                let bytes = answer.read("list of results", RESULTS_LIMIT, transport)?;
                let results: Results = serde_json::from_slice(&bytes).map_err(|_| Error::Protocol {
                    method: "Get",
                    url: shown,
                    problem: "the answer is no list of results".to_owned(),
                })?;
                results.results.unwrap_or_default()
            }
            401 | 403 | 404 | 405 => self.search_catalog(registry, term)?,
            _ => return Err(answer.unexpected()),
        };
        found.truncate(limit as usize);
        for result in &mut found {
            for text in [&mut result.name, &mut result.description] {
                *text = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            }
        }
        Ok(found)
    }

    fn search_catalog(&self, registry: &str, term: &str) -> Result<Vec<SearchResult>, Error> {
        let names = match self.catalog(registry) {
            Err(Error::Unsupported { registry, .. }) => return Err(Error::Unsupported { registry, what: "search" }),
            names => names?,
        };
        let found = names.into_iter().filter(|name| name.contains(term));
        Ok(found.map(|name| SearchResult { name, ..SearchResult::default() }).collect())
    }
}
