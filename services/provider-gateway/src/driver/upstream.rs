//! Where a backend's requests go, and with which credential.

use reqwest::{
    Client, Method, Response,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use tutti_error::Reason;
use tutti_providers::{Adapter, Credential, HttpRequest};
use tutti_types::AttemptId;

use super::{
    body::{self, OnWire, Outgoing},
    clock::{Clock, Wait},
};
use crate::{
    error::Failure,
    resilience::{Key, Keys},
};

/// A provider at an address.
#[derive(Debug)]
pub(crate) struct Upstream {
    client: Client,
    base_url: String,
    adapter: Box<dyn Adapter>,
    keys: Keys,
    organization: Option<String>,
    project: Option<String>,
}

impl Upstream {
    /// A provider at `base_url`, which has no final slash.
    pub(crate) fn new(client: Client, base_url: String, adapter: Box<dyn Adapter>, keys: Keys) -> Self {
        Self { client, base_url, adapter, keys, organization: None, project: None }
    }

    /// With OpenAI's organisation and project.
    #[must_use]
    pub(crate) fn billed_to(mut self, organization: Option<String>, project: Option<String>) -> Self {
        self.organization = organization;
        self.project = project;
        self
    }

    /// The wire format.
    pub(crate) fn adapter(&self) -> &dyn Adapter {
        self.adapter.as_ref()
    }

    /// Host and port of the provider.
    pub(crate) fn address(&self) -> Option<(String, u16)> {
        let url: reqwest::Url = self.base_url.parse().ok()?;
        Some((url.host_str()?.to_owned(), url.port_or_known_default()?))
    }

    /// Its credentials.
    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Sends a request and waits for the head of a successful answer. `on_wire` is set when it begins to leave.
    ///
    /// # Errors
    /// No connection, no answer in time, or the provider's refusal, classed.
    pub(crate) async fn send(
        &self,
        request: HttpRequest,
        attempt: AttemptId,
        key: &Key,
        on_wire: OnWire,
        clock: &Clock,
        wait: Wait,
    ) -> Result<Response, Failure> {
        let headers = self.headers(&request, attempt, key)?;
        let url = format!("{}{}", self.base_url, request.path);
        let method = if request.body.is_some() { Method::POST } else { Method::GET };
        let mut outgoing = self.client.request(method, url).headers(headers);
        if let Some(body) = request.body {
            outgoing = outgoing.body(reqwest::Body::wrap(Outgoing::new(body, on_wire)));
        }
        let response = clock.wait(wait, outgoing.send()).await?.map_err(|error| transport_failure(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.refusal(response, clock).await)
    }

    fn headers(&self, request: &HttpRequest, attempt: AttemptId, key: &Key) -> Result<HeaderMap, Failure> {
        let mut headers = HeaderMap::new();
        if request.body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        headers.insert("x-client-request-id", value(&attempt.to_string())?);
        for (name, text) in &request.headers {
            headers.insert(HeaderName::from_static(name), value(text)?);
        }
        let credential = Credential {
            key: key.secret(),
            organization: self.organization.as_deref(),
            project: self.project.as_deref(),
        };
        for (name, text) in self.adapter.auth(&credential) {
            let mut secret = value(&text)?;
            secret.set_sensitive(true);
            headers.insert(HeaderName::from_static(name), secret);
        }
        Ok(headers)
    }

    async fn refusal(&self, response: Response, clock: &Clock) -> Failure {
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let body = body::collect_error(response, clock).await;
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Failure::refused(self.adapter.error(status, &header, &body))
    }
}

fn value(text: &str) -> Result<HeaderValue, Failure> {
    let refused = |_| Failure::unreached(Reason::Internal, "a header of the request can't be written");
    HeaderValue::from_str(text).map_err(refused)
}

/// A failure below HTTP. What reqwest says may hold the address with its query, so only its causes are shown.
fn transport_failure(error: &reqwest::Error) -> Failure {
    let cause = root_cause(error);
    if error.is_connect() && error.is_timeout() {
        return Failure::unreached(Reason::ConnectTimeout, "no connection to the provider in time");
    }
    if error.is_connect() {
        return Failure::unreached(Reason::ConnectionFailed, format!("no connection to the provider: {cause}"));
    }
    if error.is_builder() {
        return Failure::unreached(Reason::Internal, format!("the request can't be built: {cause}"));
    }
    Failure::new(Reason::ConnectionFailed, format!("the connection broke before the answer began: {cause}"))
}

/// The innermost of the errors.
pub(super) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
