//! Request bodies, bounded in size and time.

use std::time::Duration;

use poem::{Request, RequestBody};
use poem_openapi::payload::{Json, ParsePayload, Payload};
use poem_openapi::registry::{MetaMediaType, MetaRequest, MetaSchema, MetaSchemaRef, Registry};
use poem_openapi::types::ParseFromJSON;
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use serde_json::Value;

use super::problem::{Code, Problem};

/// The largest body of a user's request: a few paths and names.
const JSON_BYTES: usize = 16 * 1024;

/// The largest webhook. Stripe publishes no maximum; an invoice of many lines has some hundred kilobytes.
const WEBHOOK_BYTES: usize = 1024 * 1024;

/// How long a body may take to arrive. Stripe gives up on us after about as long.
const DEADLINE: Duration = Duration::from_secs(10);

/// A JSON object all of whose fields are optional: no body at all means none of them.
#[derive(Debug)]
pub(super) struct OptionalJson<T>(pub T);

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
        let bytes = read(request, body, JSON_BYTES).await?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        if !request.content_type().is_some_and(<Json<T> as Payload>::check_content_type) {
            let detail = "Send `Content-Type: application/json`.";
            return Err(Problem::new(Code::UnsupportedMediaType, detail).into());
        }
        let value: Value = serde_json::from_slice(&bytes)
            .map_err(|_| Problem::new(Code::InvalidRequest, "The body is not JSON."))?;
        let parsed = T::parse_from_json(Some(value)).map_err(|_| {
            let detail = "The body is not the object that /openapi.json describes for this operation.";
            Problem::new(Code::InvalidRequest, detail)
        })?;
        Ok(Self(parsed))
    }
}

/// A webhook's body, byte for byte: the signature is over these bytes and no others.
#[derive(Debug)]
pub(super) struct WebhookBody(pub Vec<u8>);

impl Payload for WebhookBody {
    const CONTENT_TYPE: &'static str = "application/json";

    /// The signature tells whether it is Stripe's, whatever a proxy did to the header.
    fn check_content_type(_: &str) -> bool {
        true
    }

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Inline(Box::new(MetaSchema {
            description: Some("A Stripe event, signed in `Stripe-Signature`."),
            ..MetaSchema::new("object")
        }))
    }
}

impl ParsePayload for WebhookBody {
    const IS_REQUIRED: bool = true;

    async fn from_request(request: &Request, body: &mut RequestBody) -> poem::Result<Self> {
        Ok(Self(read(request, body, WEBHOOK_BYTES).await?))
    }
}

impl<'a> ApiExtractor<'a> for WebhookBody {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];

    type ParamType = ();
    type ParamRawType = ();

    fn request_meta() -> Option<MetaRequest> {
        let schema = <Self as Payload>::schema_ref();
        let content = vec![MetaMediaType { content_type: <Self as Payload>::CONTENT_TYPE, schema }];
        Some(MetaRequest { description: None, content, required: true })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        <Self as ParsePayload>::from_request(request, body).await
    }
}

/// Reads a body within its bounds: refused by its announced length before a byte is read, and by its real one while
/// it is.
async fn read(request: &Request, body: &mut RequestBody, limit: usize) -> Result<Vec<u8>, Problem> {
    let too_large = || Problem::new(Code::TooLarge, format!("Send at most {limit} bytes."));
    let announced = request.headers().get("content-length").and_then(|length| length.to_str().ok());
    if announced.and_then(|length| length.parse::<usize>().ok()).is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let broken = || Problem::new(Code::InvalidRequest, "The body broke off.");
    let body = body.take().map_err(|_| broken())?;
    match tokio::time::timeout(DEADLINE, body.into_bytes_limit(limit)).await {
        Ok(Ok(bytes)) => Ok(bytes.into()),
        Ok(Err(poem::error::ReadBodyError::PayloadTooLarge)) => Err(too_large()),
        Ok(Err(_)) => Err(broken()),
        Err(_) => Err(Problem::new(Code::InvalidRequest, "The body took longer than 10 s to arrive.")),
    }
}
