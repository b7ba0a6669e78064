//! Lists: tags, referrers, repositories (distribution specification, "Content Discovery").

use super::body::Payload;
use super::page::Page;
use super::refusal::{Code, Refusal};
use super::route::encode;
use super::service::{Answer, Call, Service, json, with_body};
use hyper::StatusCode;
use hyper::header::{HeaderValue, LINK};
use serde_json::json;
use tare_spec::image::{Descriptor, media_type};
use tare_spec::{Digest, Repository};

/// How large a list of referrers becomes before it is continued on a further page, in bytes: what clients take at least.
const REFERRERS_SIZE: usize = 3 << 20;

impl Service {
    pub(super) async fn tags(&self, call: &Call, name: Repository) -> Answer {
        let page = Page::parse(&call.query)?;
        let tags = match &self.proxy {
            Some(proxy) => proxy.tags(self, &name).await?,
            None => None,
        };
        let repository = name.clone();
        let tags = match tags {
            Some(tags) => Some(tags),
            None => self.read(move |storage| storage.tags(&repository)).await?,
        };
        let unknown = || Refusal::new(Code::NameUnknown, format!("repository {name} is not known"));
        let (tags, link) = page.cut(&format!("/v2/{name}/tags/list"), tags.ok_or_else(unknown)?);
        linked(json(&json!({ "name": name.as_str(), "tags": tags })), link)
    }

    pub(super) async fn catalog(&self, call: &Call) -> Answer {
        let page = Page::parse(&call.query)?;
        let repositories = self.read(|storage| storage.repositories()).await?;
        let (repositories, link) = page.cut("/v2/_catalog", repositories);
        linked(json(&json!({ "repositories": repositories })), link)
    }

    pub(super) async fn referrers(&self, call: &Call, name: Repository, subject: Digest) -> Answer {
        let all = match &self.proxy {
            Some(proxy) => proxy.referrers(self, &name, &subject).await?,
            None => None,
        };
        let (repository, wanted) = (name.clone(), subject.clone());
        let mut all = match all {
            Some(all) => all,
            None => self.read(move |storage| storage.referrers(&repository, &wanted)).await?,
        };
        all.sort_by(|one, other| one.digest.cmp(&other.digest));
        let kind = call.query.one("artifactType").filter(|kind| !kind.is_empty());
        let (page, last) = referrers_page(&all, kind, call.query.one("last"), REFERRERS_SIZE);
        let index = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": page });
        let mut headers = vec![("content-type", media_type::OCI_INDEX)];
        headers.extend(kind.map(|_| ("oci-filters-applied", "artifactType")));
        let link = last.map(|last| {
            let kind = kind.map_or_else(String::new, |kind| format!("&artifactType={}", encode(kind)));
            format!("</v2/{name}/referrers/{subject}?last={}{kind}>; rel=\"next\"", encode(last.as_str()))
        });
        linked(with_body(StatusCode::OK, &headers, Payload::document(index.to_string())), link)
    }
}

/// The referrers of one kind behind `last` that fit into `size` bytes, one at least, and the last of them if others follow.
fn referrers_page<'a>(
    all: &'a [Descriptor],
    kind: Option<&str>,
    last: Option<&str>,
    size: usize,
) -> (Vec<&'a Descriptor>, Option<&'a Digest>) {
    let wanted = all.iter().filter(|descriptor| {
        last.is_none_or(|last| descriptor.digest.as_str() > last)
            && kind.is_none_or(|kind| descriptor.artifact_type.as_deref() == Some(kind))
    });
    let (mut page, mut left) = (Vec::new(), size);
    for descriptor in wanted {
        let length = serde_json::to_vec(descriptor).map_or(0, |text| text.len() + 1);
        if length > left && !page.is_empty() {
            let last = page.last().map(|descriptor: &&Descriptor| &descriptor.digest);
            return (page, last);
        }
        left = left.saturating_sub(length);
        page.push(descriptor);
    }
    (page, None)
}

fn linked(answer: Answer, link: Option<String>) -> Answer {
    let mut answer = answer?;
    if let Some(link) = link {
        let link = HeaderValue::try_from(link).map_err(|error| Refusal::internal(error.to_string()))?;
        answer.headers_mut().insert(LINK, link);
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn referrers_come_in_pages_that_fit() {
        let descriptor = |n: u8, kind: &str| Descriptor {
            artifact_type: Some(kind.to_owned()),
            ..Descriptor::new(media_type::OCI_MANIFEST, Digest::from_sha256([n; 32]), 1)
        };
        let all = [descriptor(1, "a"), descriptor(2, "b"), descriptor(3, "a"), descriptor(4, "a")];
        let digests = |page: &[&Descriptor]| page.iter().map(|entry| entry.digest.clone()).collect::<Vec<_>>();
        let digest = |n: u8| Digest::from_sha256([n; 32]);
        let (page, last) = referrers_page(&all, None, None, 1 << 20);
        assert_eq!((page.len(), last), (4, None));
        let (page, last) = referrers_page(&all, Some("a"), None, 400);
        assert_eq!((digests(&page), last), (vec![digest(1), digest(3)], Some(&digest(3))));
        let (page, last) = referrers_page(&all, Some("a"), Some(digest(3).as_str()), 400);
        assert_eq!((digests(&page), last), (vec![digest(4)], None));
        // One that is larger than a page comes alone.
        let (page, last) = referrers_page(&all, None, None, 1);
        assert_eq!((digests(&page), last), (vec![digest(1)], Some(&digest(1))));
        assert!(referrers_page(&all, Some("x"), None, 400).0.is_empty());
    }
}
