//! Which tags a repository has, there and here.

use crate::engine::Engine;
use crate::error::{Error, Result};
use tare_registry::{Client, ClientOptions};
use tare_spec::Reference;

impl Engine {
    /// The repository with each of its tags in the registry, as the registry lists them.
    ///
    /// # Errors
    /// [`Error::Registry`], [`Error::Reference`]; [`Error::InvalidParameter`] for a name with a tag or a digest.
    pub fn remote_tags(&self, repository: &str) -> Result<Vec<Reference>> {
        let repository = without_version(repository)?;
        let client = Client::new(ClientOptions::of_host()?);
        let tags = client.tags(&repository)?;
        tags.iter().map(|tag| Ok(Reference::parse(&format!("{repository}:{tag}"))?)).collect()
    }

    /// The repository with each tag that an image has here, sorted.
    ///
    /// # Errors
    /// [`Error::NotLocal`] when there is none; [`Error::Reference`]; [`Error::InvalidParameter`] for a name with a tag or a
    /// digest.
    pub fn local_tags(&self, repository: &str) -> Result<Vec<Reference>> {
        let repository = without_version(repository)?;
        let names = self.store()?.summaries()?.into_iter().flat_map(|image| image.references);
        let mut tags: Vec<Reference> = names.filter(|name| name.without_version() == repository).collect();
        tags.sort();
        if tags.is_empty() {
            return Err(Error::NotLocal { name: repository.familiar_name() });
        }
        Ok(tags)
    }
}

fn without_version(repository: &str) -> Result<Reference> {
    let reference = Reference::parse(repository)?;
    if reference.tag().is_some() || reference.digest().is_some() {
        return Err(Error::invalid("tag can't be used with --all-tags/-a"));
    }
    Ok(reference)
}
