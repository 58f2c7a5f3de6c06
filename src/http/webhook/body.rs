//! The body of a webhook: the bytes that are signed.

use poem::{Body, Request, RequestBody};
use poem_openapi::registry::{MetaMediaType, MetaRequest, MetaSchema, MetaSchemaRef};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};

use super::admission::BodySlot;
use crate::http::body::{self, Refusal, announced_length};

/// The largest webhook. Stripe publishes no maximum; an invoice of many lines has some hundred kilobytes.
const WEBHOOK_BYTES: usize = 1024 * 1024;

/// A webhook's body, byte for byte, not read yet: its header may say enough. The signature is over these bytes and no
/// others, so whatever a proxy did to the headers, or a `Content-Encoding` says, they are taken as they come.
#[derive(Debug)]
pub(super) struct WebhookBody {
    body: Body,
    announced: Option<usize>,
}

impl WebhookBody {
    /// Reads the body, unless its slot is needed for another.
    pub(super) async fn read(self, slot: BodySlot<'_>) -> Result<Vec<u8>, Refusal> {
        tokio::select! {
            biased;
            read = body::read(self.body, self.announced, WEBHOOK_BYTES) => read,
            () = slot.evicted() => Err(Refusal::Crowded),
        }
    }
}

impl<'a> ApiExtractor<'a> for WebhookBody {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];

    type ParamType = ();
    type ParamRawType = ();

    fn request_meta() -> Option<MetaRequest> {
        let schema = event_schema();
        let content = vec![MetaMediaType { content_type: "application/json", schema }];
        Some(MetaRequest { description: None, content, required: true })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        Ok(Self { body: body.take()?, announced: announced_length(request) })
    }
}

/// Only what an event cannot do without: Stripe has hundreds of types, of which none may be refused.
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
        description: Some("When it happened, in Unix seconds: a time of the years up to 9999."),
        example: Some(1_796_083_200.into()),
        minimum: Some(-377_705_116_800.0),
        maximum: Some(253_402_300_799.0),
        ..MetaSchema::new_with_format("integer", "int64")
    };
    inline(MetaSchema {
        description: Some("A Stripe event, signed in `Stripe-Signature`: more fields than these, and any."),
        required: vec!["id", "type", "created"],
        properties: vec![
            ("id", text("Stripe's id of the event.", "^evt_[A-Za-z0-9_]+$", "evt_1a2b3c")),
            ("type", text("What happened.", r"^[A-Za-z0-9._\[\]-]+$", "customer.subscription.updated")),
            ("created", inline(created)),
        ],
        ..MetaSchema::new("object")
    })
}
