//! Request bodies, bounded in size and time.

use std::marker::PhantomData;
use std::time::Duration;

use poem::error::ReadBodyError;
use poem::{Body, Request, RequestBody};
use poem_openapi::payload::{Json, ParsePayload, Payload};
use poem_openapi::registry::{MetaMediaType, MetaRequest, MetaSchema, MetaSchemaRef, Registry};
use poem_openapi::types::ParseFromJSON;
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use serde_json::Value;

use super::problem::{Code, Problem};
use super::webhook::WebhookState;

/// The largest body of a user's request: a few paths and names.
const JSON_BYTES: usize = 16 * 1024;

/// The largest webhook. Stripe publishes no maximum; an invoice of many lines has some hundred kilobytes.
const WEBHOOK_BYTES: usize = 1024 * 1024;

/// How long a body may take to arrive. Stripe gives up on us after about as long.
const DEADLINE: Duration = Duration::from_secs(10);

/// A JSON object all of whose fields are optional, not read yet: whoever sends it is counted first.
#[derive(Debug)]
pub(super) struct OptionalJson<T> {
    body: Body,
    is_json: bool,
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
            return Err(Problem::new(Code::UnsupportedMediaType, "Send `Content-Type: application/json`."));
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
        Ok(Self { body: body.take()?, is_json, announced: announced(request), object: PhantomData })
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

    /// Only what an event cannot do without: Stripe has hundreds of types, of which none may be refused.
    fn schema_ref() -> MetaSchemaRef {
        let inline = |schema| MetaSchemaRef::Inline(Box::new(schema));
        let text = |description, pattern: &str, example: &str| {
            inline(MetaSchema {
                description: Some(description),
                pattern: Some(pattern.to_owned()),
                min_length: Some(1),
                max_length: Some(255),
                example: Some(example.into()),
                ..MetaSchema::new("string")
            })
        };
        let created = MetaSchema {
            description: Some("When it happened, in Unix seconds: a time of the years up to 9999."),
            example: Some(1_796_083_200.into()),
            minimum: Some(-377_705_116_800.0),
            maximum: Some(253_402_300_799.0),
            ..MetaSchema::new_with_format("integer", "int64")
        };
        inline(MetaSchema {
            description: Some(
                "A Stripe event, signed in `Stripe-Signature`: more fields than these, and any.",
            ),
            required: vec!["id", "type", "created"],
            properties: vec![
                ("id", text("Stripe's id of the event.", "^evt_[A-Za-z0-9_]+$", "evt_1a2b3c")),
                ("type", text("What happened.", r"^[A-Za-z0-9._\[\]-]+$", "customer.subscription.updated")),
                ("created", inline(created)),
            ],
            ..MetaSchema::new("object")
        })
    }
}

impl ParsePayload for WebhookBody {
    const IS_REQUIRED: bool = true;

    async fn from_request(request: &Request, body: &mut RequestBody) -> poem::Result<Self> {
        let read = read(body.take()?, announced(request), WEBHOOK_BYTES).await;
        Ok(Self(read.inspect_err(|refusal| count(request, refusal)).map_err(Problem::from)?))
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

/// The length that the sender announces.
fn announced(request: &Request) -> Option<usize> {
    request.headers().get("content-length")?.to_str().ok()?.parse().ok()
}

/// Why a body is not read to its end.
enum Refusal {
    TooLarge { limit: usize },
    TooSlow,
    BrokenOff,
}

impl Refusal {
    /// The word in metrics.
    fn as_str(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too_large",
            Self::TooSlow => "body_timeout",
            Self::BrokenOff => "body_broken",
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::TooLarge { limit } => Self::new(Code::TooLarge, format!("Send at most {limit} bytes.")),
            Refusal::TooSlow => Self::new(Code::InvalidRequest, "The body took longer than 10 s to arrive."),
            Refusal::BrokenOff => Self::new(Code::InvalidRequest, "The body broke off."),
        }
    }
}

/// Counts a webhook that was not read.
fn count(request: &Request, refusal: &Refusal) {
    if let Some(state) = request.data::<WebhookState>() {
        state.billing.metrics.webhook_rejected(refusal.as_str());
    }
}

/// Reads a body within its bounds: refused by its announced length before a byte is read, and by its real one while
/// it is.
async fn read(body: Body, announced: Option<usize>, limit: usize) -> Result<Vec<u8>, Refusal> {
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
