//! Lists: tags, referrers, repositories (distribution specification, "Content Discovery").

use crate::access::Access;
use crate::answer::Answer;
use crate::auth::Session;
use crate::client::Client;
use crate::endpoint::{Fetched, Object};
use crate::error::Error;
use crate::link::next_link;
use crate::transport::Request;
use crate::url::Url;
use serde::Deserialize;
use std::sync::Arc;
use tare_spec::Reference;
use tare_spec::image::{Descriptor, Index, MANIFEST_LIMIT, media_type};
use ureq::http::header;

/// Entries asked for in a page.
const PAGE: usize = 1000;
/// Most pages that are followed, and most entries that are taken.
const PAGES_LIMIT: usize = 1000;
const ENTRIES_LIMIT: usize = 200_000;

#[derive(Default, Deserialize)]
#[serde(default)]
struct TagList {
    /// Go writes `null` for none.
    tags: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Catalog {
    repositories: Option<Vec<String>>,
}

/// A list that grows page by page.
struct Pages {
    session: Arc<Session>,
    access: Access,
    what: &'static str,
    pages: usize,
}

impl Client {
    /// All tags of the reference's repository, in the registry's order: at most 200,000.
    ///
    /// # Errors
    /// [`Error`]: not found, no access, not reachable, more than that, or what are no tags.
    pub fn tags(&self, reference: &Reference) -> Result<Vec<String>, Error> {
        let path = format!("tags/list?n={PAGE}");
        let Fetched { mut answer, endpoint } = self.shared.fetch(reference, Object::List, &path, &[])?;
        let access = Access::pull(reference, &endpoint.repository(reference));
        let mut pages = Pages { session: self.shared.session(&endpoint)?, access, what: "tag list", pages: 0 };
        let mut tags = Vec::new();
        loop {
            let page = pages.read(self, answer)?;
            let list: TagList = page.parse()?;
            let found = list.tags.unwrap_or_default();
            let name = reference.without_version();
            if let Some(bad) = found.iter().find(|tag| Reference::parse(&format!("{name}:{tag}")).is_err()) {
                return Err(page.protocol(format!("{:?} is no tag", bad.chars().take(200).collect::<String>())));
            }
            page.extend(&mut tags, found)?;
            match pages.next(self, page)? {
                Some(next) => answer = next,
                None => return Ok(tags),
            }
        }
    }

    /// What refers to the manifest that the reference names by its digest – signatures, lists of materials – or, with
    /// an artifact type, such things of this type only. Registries without this function have a tag for it
    /// (distribution specification, "Referrers Tag Schema").
    ///
    /// # Errors
    /// [`Error`]: no access, not reachable, or no index. A manifest that does not exist has no referrers.
    pub fn referrers(&self, reference: &Reference, artifact_type: Option<&str>) -> Result<Vec<Descriptor>, Error> {
        let digest = reference.digest().ok_or_else(|| Error::Unsupported {
            registry: reference.registry().to_owned(),
            what: "referrers of what is not named by its digest",
        })?;
        let headers = [("accept", media_type::OCI_INDEX)];
        let path = format!("referrers/{digest}");
        let mut found = match self.shared.fetch(reference, Object::List, &path, &headers) {
            Ok(Fetched { mut answer, endpoint }) => {
                let access = Access::pull(reference, &endpoint.repository(reference));
                let session = self.shared.session(&endpoint)?;
                let mut pages = Pages { session, access, what: "list of referrers", pages: 0 };
                let mut found = Vec::new();
                loop {
                    let page = pages.read(self, answer)?;
                    let index = Index::parse(&page.bytes, None).map_err(|error| page.protocol(error.to_string()))?;
                    page.extend(&mut found, index.manifests)?;
                    match pages.next(self, page)? {
                        Some(next) => answer = next,
                        None => break found,
                    }
                }
            }
            Err(Error::RepositoryUnknown { .. }) => self.tagged_referrers(reference, digest.as_str())?,
            Err(error) => return Err(error),
        };
        found.retain(|entry| artifact_type.is_none() || entry.artifact_type.as_deref() == artifact_type);
        Ok(found)
    }

    fn tagged_referrers(&self, reference: &Reference, digest: &str) -> Result<Vec<Descriptor>, Error> {
        let tag: String = digest.replace(':', "-").chars().take(128).collect();
        let tagged = Reference::parse(&format!("{}:{tag}", reference.without_version())).expect("a digest makes a tag");
        match self.manifest(&tagged) {
            Ok(response) => match Index::parse(&response.bytes, None) {
                Ok(index) => Ok(index.manifests),
                Err(error) => Err(Error::Protocol {
                    method: "Get",
                    url: tagged.to_string(),
                    problem: format!("no list of referrers: {error}"),
                }),
            },
            Err(Error::ManifestUnknown { .. } | Error::RepositoryUnknown { .. }) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// The names of all repositories that a registry shows us: at most 200,000. Docker Hub shows none.
    ///
    /// # Errors
    /// [`Error`]: no access, not reachable; [`Error::Unsupported`] by registries that do not list.
    pub fn catalog(&self, registry: &str) -> Result<Vec<String>, Error> {
        let session = self.shared.session(&self.shared.registry(registry))?;
        let access = Access::catalog(registry);
        let url = self.shared.url(&session, &format!("/v2/_catalog?n={PAGE}"))?;
        let mut answer = self.shared.ask(&session, &access, &url, &Request::new("Get"))?;
        let mut pages = Pages { session, access, what: "list of repositories", pages: 0 };
        let mut names = Vec::new();
        loop {
            match answer.status() {
                200 => {}
                401 | 403 | 404 | 405 => {
                    let what = "the listing of its repositories";
                    return Err(Error::Unsupported { registry: registry.to_owned(), what });
                }
                _ => return Err(answer.unexpected()),
            }
            let page = pages.read(self, answer)?;
            let list: Catalog = page.parse()?;
            let found = list.repositories.unwrap_or_default();
            if let Some(bad) = found.iter().find(|name| Reference::parse(&format!("h.io/{name}")).is_err()) {
                return Err(page.protocol(format!("{:?} is no repository", bad.chars().take(300).collect::<String>())));
            }
            page.extend(&mut names, found)?;
            match pages.next(self, page)? {
                Some(next) => answer = next,
                None => return Ok(names),
            }
        }
    }
}

/// One page, read.
struct Page {
    bytes: Vec<u8>,
    url: Url,
    next: Option<Url>,
    what: &'static str,
}

impl Page {
    fn protocol(&self, problem: String) -> Error {
        Error::Protocol { method: "Get", url: self.url.shown(), problem }
    }

    fn parse<'de, T: Deserialize<'de>>(&'de self) -> Result<T, Error> {
        serde_json::from_slice(&self.bytes).map_err(|_| self.protocol(format!("the answer is no {}", self.what)))
    }

    fn extend<T>(&self, all: &mut Vec<T>, found: Vec<T>) -> Result<(), Error> {
        if all.len() + found.len() > ENTRIES_LIMIT {
            return Err(self.protocol(format!("the {} has more than {ENTRIES_LIMIT} entries", self.what)));
        }
        all.extend(found);
        Ok(())
    }
}

impl Pages {
    fn read(&mut self, client: &Client, answer: Answer) -> Result<Page, Error> {
        self.pages += 1;
        let url = answer.url.clone();
        let links = answer.headers().get_all(header::LINK).into_iter().filter_map(|value| value.to_str().ok());
        let next = links.filter_map(next_link).find_map(|target| url.join(target));
        let next = next.map(|next| next.secured_like(&self.session.base));
        let bytes = answer.read(self.what, MANIFEST_LIMIT, &client.shared.transport)?;
        Ok(Page { bytes, url, next, what: self.what })
    }

    /// The next page, which must be of the same registry.
    fn next(&self, client: &Client, page: Page) -> Result<Option<Answer>, Error> {
        let Some(next) = &page.next else { return Ok(None) };
        if next.origin() != self.session.base.origin() || *next == page.url {
            return Err(page.protocol(format!("the next page of the {} is at {}", self.what, next.shown())));
        }
        if self.pages >= PAGES_LIMIT {
            return Err(page.protocol(format!("the {} has more than {PAGES_LIMIT} pages", self.what)));
        }
        let answer = client.shared.ask(&self.session, &self.access, next, &Request::new("Get"))?;
        if answer.status() == 200 { Ok(Some(answer)) } else { Err(answer.unexpected()) }
    }
}
