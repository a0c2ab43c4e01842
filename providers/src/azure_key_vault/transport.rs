//! Azure's client over our HTTPS: our time limits, our roots, no redirects, and answers of a limited length.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use azure_core::{
    error::{Error, ErrorKind},
    http::{
        AsyncRawResponse, Body, HttpClient, Method, Request, Transport,
        headers::{HeaderName, HeaderValue, Headers},
    },
};

use crate::http::{self, HttpError};

/// How Azure's client reaches vaults and whoever gives tokens.
pub(super) fn transport(ca_file: Option<&Path>) -> Result<Transport, HttpError> {
    Ok(Transport::new(Arc::new(Https(http::client(ca_file)?))))
}

#[derive(Debug)]
struct Https(reqwest::Client);

#[async_trait]
impl HttpClient for Https {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let failed = |kind, reason: String| Error::with_message(kind, reason);
        let method = match request.method() {
            Method::Delete => reqwest::Method::DELETE,
            Method::Get => reqwest::Method::GET,
            Method::Head => reqwest::Method::HEAD,
            Method::Patch => reqwest::Method::PATCH,
            Method::Post => reqwest::Method::POST,
            Method::Put => reqwest::Method::PUT,
            other => {
                let reason = format!("a request to a vault is no {}", other.as_str());
                return Err(failed(ErrorKind::Other, reason));
            }
        };
        let mut sent = self.0.request(method, request.url().clone());
        for (name, value) in request.headers().iter() {
            sent = sent.header(name.as_str(), value.as_str());
        }
        match request.body() {
            Body::Bytes(bytes) => sent = sent.body(bytes.clone()),
            Body::SeekableStream(_) => {
                let reason = "a request to a vault is no stream".to_owned();
                return Err(failed(ErrorKind::Other, reason));
            }
        }
        let response = sent.send().await;
        let response = response.map_err(|error| failed(ErrorKind::Io, http::why(&error)))?;
        let status = response.status().as_u16().into();
        let mut headers = Headers::new();
        for (name, value) in response.headers() {
            if let Ok(value) = value.to_str() {
                let name = HeaderName::from(name.as_str().to_owned());
                headers.insert(name, HeaderValue::from(value.to_owned()));
            }
        }
        let body = http::body(response).await;
        let body = body.map_err(|reason| failed(ErrorKind::Io, reason))?;
        // Azure's client takes it over, and does not wipe it.
        Ok(AsyncRawResponse::from_bytes(status, headers, body.to_vec()))
    }
}
