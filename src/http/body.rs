//! Request bodies, bounded in size and time.

use std::marker::PhantomData;
use std::time::Duration;

use poem::error::ReadBodyError;
use poem::{Body, Request, RequestBody};
use poem_openapi::payload::{Json, Payload};
use poem_openapi::registry::{MetaMediaType, MetaRequest, Registry};
use poem_openapi::types::ParseFromJSON;
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use serde_json::Value;

use super::problem::{Code, Problem};

/// The largest body of a user's request: a few paths and names.
const JSON_BYTES: usize = 16 * 1024;

/// How long a body may take to arrive. Stripe gives up on us after about as long.
const DEADLINE: Duration = Duration::from_secs(10);

/// When whose place was needed may come again: slow bodies are gone by then.
const RETRY_SECONDS: u64 = 10;

/// A JSON object all of whose fields are optional, not read yet: whoever sends it is counted first.
#[derive(Debug)]
pub(super) struct OptionalJson<T> {
    body: Body,
    is_json: bool,
    is_plain: bool,
    announced: Option<usize>,
    object: PhantomData<T>,
}

impl<T: ParseFromJSON + Default> OptionalJson<T> {
    /// Reads the object. No body at all means none of its fields.
    pub(super) async fn read(self) -> Result<T, Problem> {
        let bytes = read(self.body, self.announced, JSON_BYTES).await?;
        if bytes.is_empty() {
            return Ok(T::default());
        }
        if !self.is_json {
            return Err(Code::UnsupportedMediaType.into());
        }
        if !self.is_plain {
            return Err(Problem::new(
                Code::UnsupportedMediaType,
                "Send the body without `Content-Encoding`.",
            ));
        }
        let value: Value = serde_json::from_slice(&bytes)
            .map_err(|_| Problem::new(Code::InvalidRequest, "The body is not JSON."))?;
        T::parse_from_json(Some(value)).map_err(|_| {
            let detail = "The body is not the object that /openapi.json describes for this operation.";
            Problem::new(Code::InvalidRequest, detail)
        })
    }
}

impl<'a, T: ParseFromJSON + Default> ApiExtractor<'a> for OptionalJson<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        let content_type = "application/json";
        Some(MetaRequest {
            description: None,
            content: vec![MetaMediaType { content_type, schema: T::schema_ref() }],
            required: false,
        })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let is_json = request.content_type().is_some_and(<Json<T> as Payload>::check_content_type);
        let is_plain = request.header("content-encoding").is_none_or(|coding| coding == "identity");
        Ok(Self {
            body: body.take()?,
            is_json,
            is_plain,
            announced: announced_length(request),
            object: PhantomData,
        })
    }
}

/// The length that the sender announces.
pub(super) fn announced_length(request: &Request) -> Option<usize> {
    request.headers().get("content-length")?.to_str().ok()?.parse().ok()
}

/// Why a body is not read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    TooLarge {
        limit: usize,
    },
    TooSlow,
    BrokenOff,
    /// Another needed its place.
    Crowded,
}

impl Refusal {
    /// The word in metrics.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too_large",
            Self::TooSlow => "body_timeout",
            Self::BrokenOff => "body_broken",
            Self::Crowded => "crowded",
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::TooLarge { limit } => Self::new(Code::TooLarge, format!("Send at most {limit} bytes.")),
            Refusal::TooSlow => Self::new(Code::InvalidRequest, "The body took longer than 10 s to arrive."),
            Refusal::BrokenOff => Self::new(Code::InvalidRequest, "The body broke off."),
            Refusal::Crowded => {
                Self::new(Code::Unavailable, "Too many are being read: send it again, and faster.")
                    .retry_after(RETRY_SECONDS)
            }
        }
    }
}

/// Reads a body within its bounds: refused by its announced length before a byte is read, and by its real one while
/// it is.
pub(super) async fn read(body: Body, announced: Option<usize>, limit: usize) -> Result<Vec<u8>, Refusal> {
    if announced.is_some_and(|length| length > limit) {
        return Err(Refusal::TooLarge { limit });
    }
    match tokio::time::timeout(DEADLINE, body.into_bytes_limit(limit)).await {
        Ok(Ok(bytes)) => Ok(bytes.into()),
        Ok(Err(ReadBodyError::PayloadTooLarge)) => Err(Refusal::TooLarge { limit }),
        Ok(Err(_)) => Err(Refusal::BrokenOff),
        Err(_) => Err(Refusal::TooSlow),
    }
}
