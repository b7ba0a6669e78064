//! From a request to its answer.

use super::access::{Access, Event};
use super::body::{Memory, Payload, Received};
use super::htpasswd::Gate;
use super::proxy::Proxy;
use super::refusal::{Code, Refusal};
use super::route::{Query, Route};
use super::storage::{self, Storage};
use hyper::body::Incoming;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// What all requests share.
pub(super) struct Service {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) gate: Option<Gate>,
    pub(super) read_only: bool,
    pub(super) proxy: Option<Proxy>,
    pub(super) log: Arc<dyn Fn(Event) + Send + Sync>,
    pub(super) patience: Duration,
    pub(super) memory: Memory,
    /// Changes wait for a running collection on a thread each; these are fewer than there are threads, so that reading goes
    /// on meanwhile.
    pub(super) changes: Semaphore,
}

/// The head of a request, and its body if it has one.
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) headers: hyper::HeaderMap,
    pub(super) path: String,
    pub(super) query: Query,
    pub(super) body: Received,
}

impl Call {
    pub(super) fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(super) fn is_head(&self) -> bool {
        self.method == Method::HEAD
    }
}

/// An answer in the making.
pub(super) type Answer = Result<Response<Payload>, Refusal>;

impl Service {
    /// Answers, and tells the log.
    pub(super) async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> Result<Response<Payload>, Infallible> {
        let began = Instant::now();
        let (parts, body) = request.into_parts();
        let clean = |text: &str| text.chars().filter(|c| !c.is_control()).take(2048).collect::<String>();
        let mut access = Access {
            peer,
            user: None,
            method: clean(parts.method.as_str()),
            target: clean(&parts.uri.to_string()),
            status: 0,
            size: 0,
            duration: Duration::ZERO,
            agent: parts.headers.get(header::USER_AGENT).and_then(|agent| Some(clean(agent.to_str().ok()?))),
            cause: None,
        };
        let mut call = Call {
            method: parts.method,
            headers: parts.headers,
            path: parts.uri.path().to_owned(),
            query: Query::parse(parts.uri.query()),
            body: Received::new(body, self.patience),
        };
        let answer = match self.user(&call).await {
            Ok(user) => {
                access.user = user.map(|user| clean(&user));
                self.route(&mut call).await
            }
            Err(refusal) => Err(refusal),
        };
        let head = call.is_head();
        let answer = answer.and_then(|response| {
            let (parts, body) = response.into_parts();
            let body = body.within(&self.memory).ok_or_else(Memory::refusal)?;
            Ok(Response::from_parts(parts, body))
        });
        let mut response = match answer {
            Ok(response) => response,
            Err(refusal) => {
                access.cause.clone_from(&refusal.cause);
                call.body.drain().await;
                refused(refusal)
            }
        };
        let headers = response.headers_mut();
        headers.insert("docker-distribution-api-version", HeaderValue::from_static("registry/2.0"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        let size = response.body().size();
        let bodiless = matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if !response.headers().contains_key(header::CONTENT_LENGTH) && !bodiless {
            response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(size));
        }
        if head {
            *response.body_mut() = Payload::empty();
        }
        access.status = response.status().as_u16();
        access.size = response.body().size();
        access.duration = began.elapsed();
        (self.log)(Event::Access(access));
        Ok(response)
    }

    async fn user(self: &Arc<Self>, call: &Call) -> Result<Option<String>, Refusal> {
        match &self.gate {
            None => Ok(None),
            Some(gate) => gate.check(call.header(header::AUTHORIZATION), &self.log).await.map(Some),
        }
    }

    async fn route(self: &Arc<Self>, call: &mut Call) -> Answer {
        let route = match Route::parse(&call.path) {
            None => {
                let message = "no part of the distribution specification";
                return Err(Refusal::new(Code::Unsupported, message).with_status(StatusCode::NOT_FOUND));
            }
            Some(route) => route?,
        };
        let reads = matches!(call.method, Method::GET | Method::HEAD);
        let allowed = route.methods().split(", ").any(|method| method == call.method.as_str());
        let reason = match (&self.proxy, self.read_only) {
            (Some(_), _) => Some("this registry is a cache of another one: push there"),
            (None, true) => Some("this registry is read-only"),
            (None, false) => None,
        };
        if let Some(reason) = reason.filter(|_| allowed && !reads) {
            return Err(Refusal::new(Code::Unsupported, reason).with_header("allow", "GET, HEAD"));
        }
        let method = call.method.clone();
        match (route, method) {
            (Route::Root, Method::GET | Method::HEAD) => json(&serde_json::json!({})),
            (Route::Catalog, Method::GET | Method::HEAD) => self.catalog(call).await,
            (Route::Tags(name), Method::GET | Method::HEAD) => self.tags(call, name).await,
            (Route::Referrers(name, subject), Method::GET | Method::HEAD) => self.referrers(call, name, subject).await,
            (Route::Manifest(name, id), Method::GET | Method::HEAD) => self.manifest(call, name, id).await,
            (Route::Manifest(name, id), Method::PUT) => self.put_manifest(call, name, id).await,
            (Route::Manifest(name, id), Method::DELETE) => self.delete_manifest(name, id).await,
            (Route::Blob(name, digest), Method::GET | Method::HEAD) => self.blob(call, name, digest).await,
            (Route::Blob(name, digest), Method::DELETE) => self.delete_blob(name, digest).await,
            (Route::Uploads(name), Method::POST) => self.begin_upload(call, name).await,
            (Route::Upload(name, id), Method::GET | Method::HEAD) => self.upload_status(name, id).await,
            (Route::Upload(name, id), Method::PATCH) => self.patch_upload(call, name, id).await,
            (Route::Upload(name, id), Method::PUT) => self.finish_upload(call, name, id).await,
            (Route::Upload(name, id), Method::DELETE) => self.cancel_upload(name, id).await,
            (route, method) => {
                let message = format!("{} is not for this path", method.as_str().chars().take(32).collect::<String>());
                Err(Refusal::new(Code::Unsupported, message).with_header("allow", route.methods()))
            }
        }
    }

    /// Reads from the storage on a thread that may wait for the disk.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Storage) -> storage::Result<T> + Send + 'static,
    ) -> Result<T, Refusal> {
        let storage = Arc::clone(&self.storage);
        match tokio::task::spawn_blocking(move || work(&*storage)).await {
            Ok(result) => Ok(result?),
            Err(panic) => Err(Refusal::internal(panic.to_string())),
        }
    }

    /// Changes the storage.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Storage) -> storage::Result<T> + Send + 'static,
    ) -> Result<T, Refusal> {
        let _turn = self.changes.acquire().await.map_err(|closed| Refusal::internal(closed.to_string()))?;
        self.read(work).await
    }
}

/// An answer without a body.
pub(super) fn answer(status: StatusCode, headers: &[(&'static str, &str)]) -> Answer {
    with_body(status, headers, Payload::empty())
}

/// An answer with a body.
pub(super) fn with_body(status: StatusCode, headers: &[(&'static str, &str)], body: Payload) -> Answer {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    for (name, value) in headers {
        let value = HeaderValue::from_str(value).map_err(|error| Refusal::internal(format!("{name}: {error}")))?;
        response.headers_mut().append(*name, value);
    }
    Ok(response)
}

/// A document of the registry's own.
pub(super) fn json(document: &serde_json::Value) -> Answer {
    let body = Payload::document(document.to_string());
    with_body(StatusCode::OK, &[("content-type", "application/json")], body)
}

/// The answer to a refused request.
fn refused(refusal: Refusal) -> Response<Payload> {
    let Refusal { status, code, message, headers, .. } = refusal;
    let document = serde_json::json!({ "errors": [{ "code": code.name(), "message": message }] });
    let mut response = Response::new(Payload::document(document.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in headers {
        // What cannot stand in a header is left out of it; the body says it anyway.
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().append(name, value);
        }
    }
    response
}
