//! What we want to do at a registry: scopes of the token protocol (`spec/auth/scope.md`).

use crate::error::{Error, RegistryMessage};
use tare_spec::Reference;

/// One kind of access, for which a token is good.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    scopes: Vec<String>,
    /// The repository's short name, for messages.
    name: String,
    writes: bool,
}

impl Access {
    /// Reading a repository, whose path at this registry may not be that of the reference.
    pub(crate) fn pull(reference: &Reference, repository: &str) -> Self {
        let scopes = vec![format!("repository:{repository}:pull")];
        Self { scopes, name: reference.familiar_name(), writes: false }
    }

    /// Reading and writing a repository.
    pub(crate) fn push(reference: &Reference) -> Self {
        let scopes = vec![format!("repository:{}:pull,push", reference.repository())];
        Self { scopes, name: reference.familiar_name(), writes: true }
    }

    /// Writing a repository with what another one has.
    pub(crate) fn mount(reference: &Reference, from: &str) -> Self {
        let mut access = Self::push(reference);
        access.scopes.push(format!("repository:{from}:pull"));
        access
    }

    /// Reading the list of repositories.
    pub(crate) fn catalog(registry: &str) -> Self {
        Self { scopes: vec!["registry:catalog:*".to_owned()], name: registry.to_owned(), writes: false }
    }

    /// Nothing but being known.
    pub(crate) fn login(registry: &str) -> Self {
        Self { scopes: Vec::new(), name: registry.to_owned(), writes: false }
    }

    pub(crate) fn scopes(&self) -> &[String] {
        &self.scopes
    }

    /// What Docker says when a repository is missing or private.
    pub(crate) fn denied(&self, source: Option<RegistryMessage>) -> Error {
        let source =
            source.unwrap_or_else(|| RegistryMessage::new("DENIED", "requested access to the resource is denied"));
        let name = self.name.clone();
        if self.writes { Error::PushDenied { name, source } } else { Error::AccessDenied { name, source } }
    }
}
