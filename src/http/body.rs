//! Request bodies, limited in size and time.

use std::marker::PhantomData;
use std::time::Duration;

use poem::error::ReadBodyError;
use poem::{Body, Request, RequestBody};
use poem_openapi::payload::{Json, Payload};
use poem_openapi::registry::{MetaMediaType, MetaRequest, MetaSchema, MetaSchemaRef, Registry};
use poem_openapi::types::ParseFromJSON;
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use serde_json::Value;

use super::problem::{Code, Problem};

/// The largest JSON body of a tenant's user: a few paths and names.
const MAX_JSON_BYTES: usize = 16 * 1024;

/// The largest webhook body. Stripe publishes no maximum. An invoice with many lines has a few
/// hundred kilobytes.
const MAX_WEBHOOK_BYTES: usize = 1024 * 1024;

/// Stripe gives up on a webhook after about this time, too.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// `Retry-After` of an evicted body. By then the other slow bodies have timed out.
const EVICTED_RETRY_AFTER_SECONDS: u64 = 10;

/// An unread JSON object whose fields are all optional. It is read after the request has been
/// authorized and counted.
#[derive(Debug)]
pub(super) struct JsonBody<T> {
    body: UnreadBody,
    is_json: bool,
    is_encoded: bool,
    object: PhantomData<T>,
}

impl<T: ParseFromJSON + Default> JsonBody<T> {
    /// Reads the object. An empty body is an object without fields.
    pub(super) async fn read(self) -> Result<T, Problem> {
        let bytes = self.body.read(MAX_JSON_BYTES).await?;
        if bytes.is_empty() {
            return Ok(T::default());
        }
        if !self.is_json {
            return Err(Code::UnsupportedMediaType.into());
        }
        if self.is_encoded {
            let detail = "The body is compressed. Send it without `Content-Encoding`.";
            return Err(Problem::new(Code::UnsupportedMediaType, detail));
        }
        let value: Value = serde_json::from_slice(&bytes)
            .map_err(|_| Problem::new(Code::InvalidRequest, "The body is not valid JSON."))?;
        T::parse_from_json(Some(value)).map_err(|_| {
            let detail = "The body does not match the schema of this operation in /openapi.json.";
            Problem::new(Code::InvalidRequest, detail)
        })
    }
}

impl<'a, T: ParseFromJSON + Default> ApiExtractor<'a> for JsonBody<T> {
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
        let is_encoded = request.header("content-encoding").is_some_and(|coding| coding != "identity");
        Ok(Self { body: UnreadBody::take(request, body)?, is_json, is_encoded, object: PhantomData })
    }
}

/// An unread webhook body. The signature covers exactly these bytes, so they are never decoded,
/// whatever `Content-Encoding` says.
#[derive(Debug)]
pub(super) struct WebhookBody(UnreadBody);

impl WebhookBody {
    pub(super) async fn read(self) -> Result<Vec<u8>, BodyError> {
        self.0.read(MAX_WEBHOOK_BYTES).await
    }
}

impl<'a> ApiExtractor<'a> for WebhookBody {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];

    type ParamType = ();
    type ParamRawType = ();

    fn request_meta() -> Option<MetaRequest> {
        let content = vec![MetaMediaType { content_type: "application/json", schema: event_schema() }];
        Some(MetaRequest { description: None, content, required: true })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        UnreadBody::take(request, body).map(Self)
    }
}

/// The required fields of an event. Stripe has hundreds of event types, and the schema must not
/// exclude any.
fn event_schema() -> MetaSchemaRef {
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
        description: Some("The time of the event in Unix seconds, up to the year 9999."),
        example: Some(1_796_083_200.into()),
        minimum: Some(-377_705_116_800.0),
        maximum: Some(253_402_300_799.0),
        ..MetaSchema::new_with_format("integer", "int64")
    };
    inline(MetaSchema {
        description: Some(
            "A Stripe event, signed in `Stripe-Signature`. It may have any fields besides the listed ones.",
        ),
        required: vec!["id", "type", "created"],
        properties: vec![
            ("id", text("The event's id at Stripe.", "^evt_[A-Za-z0-9_]+$", "evt_1a2b3c")),
            ("type", text("The event type.", r"^[A-Za-z0-9._\[\]-]+$", "customer.subscription.updated")),
            ("created", inline(created)),
        ],
        ..MetaSchema::new("object")
    })
}

#[derive(Debug)]
struct UnreadBody {
    body: Body,
    content_length: Option<usize>,
}

impl UnreadBody {
    fn take(request: &Request, body: &mut RequestBody) -> poem::Result<Self> {
        let content_length = request.header("content-length").and_then(|length| length.parse().ok());
        Ok(Self { body: body.take()?, content_length })
    }

    /// Checks the limit against `Content-Length` before reading, and against the real size while
    /// reading.
    async fn read(self, limit: usize) -> Result<Vec<u8>, BodyError> {
        if self.content_length.is_some_and(|length| length > limit) {
            return Err(BodyError::TooLarge { limit });
        }
        match tokio::time::timeout(BODY_TIMEOUT, self.body.into_bytes_limit(limit)).await {
            Ok(Ok(bytes)) => Ok(bytes.into()),
            Ok(Err(ReadBodyError::PayloadTooLarge)) => Err(BodyError::TooLarge { limit }),
            Ok(Err(_)) => Err(BodyError::Incomplete),
            Err(_) => Err(BodyError::Timeout),
        }
    }
}

/// Why a body was not read completely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyError {
    TooLarge {
        limit: usize,
    },
    Timeout,
    Incomplete,
    /// Another body needed its slot.
    Evicted,
}

impl BodyError {
    /// The label in metrics.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too_large",
            Self::Timeout => "body_timeout",
            Self::Incomplete => "body_broken",
            Self::Evicted => "crowded",
        }
    }
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge { limit } => {
                Self::new(Code::TooLarge, format!("The body is too large. Send at most {limit} bytes."))
            }
            BodyError::Timeout => Self::new(
                Code::InvalidRequest,
                "The body took longer than 10 s to arrive. Send it again, faster.",
            ),
            BodyError::Incomplete => {
                Self::new(Code::InvalidRequest, "The body ended too early. Send it again.")
            }
            BodyError::Evicted => {
                Self::new(Code::Unavailable, "Too many slow bodies are being read. Send it again, faster.")
                    .retry_after(EVICTED_RETRY_AFTER_SECONDS)
            }
        }
    }
}
