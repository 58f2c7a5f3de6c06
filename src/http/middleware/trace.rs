//! The server span of a request, by OpenTelemetry's stable HTTP conventions
//! (<https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-server-span>).

use opentelemetry::trace::{Status, TraceContextExt};
use poem::Request;
use poem::http::{Method, StatusCode, Version};
use tracing::{Span, field, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::domain::journey::Traceparent;
use crate::telemetry::spans::{continue_from, detach, is_recorded};

/// The path segments of the webhook endpoint. Its sender is not authenticated and may not choose
/// the trace.
const WEBHOOK_PATH: [&str; 3] = ["api", "billing", "webhook"];

/// Characters of `User-Agent` that are recorded.
const MAX_USER_AGENT_LENGTH: usize = 200;

/// The handler runs inside the span, so that a problem can show its trace id. The span ends with
/// the head of the response: an event stream lasts up to an hour, and a span is exported only when
/// it ends.
pub(super) fn open_span(request: &Request, method: &'static str) -> Span {
    let user_agent = request.header("user-agent");
    let user_agent = user_agent.map(|value| value.chars().take(MAX_USER_AGENT_LENGTH).collect::<String>());
    let span = info_span!(
        "HTTP",
        otel.name = span_name(method),
        otel.kind = "server",
        http.request.method = method,
        url.scheme = request.scheme().as_str(),
        network.protocol.version = protocol_version(request.version()),
        user_agent.original = user_agent,
        http.route = field::Empty,
        url.path = field::Empty,
        http.response.status_code = field::Empty,
        error.type = field::Empty,
    );
    match inbound_trace(request) {
        Some(parent) => continue_from(&span, parent),
        None => detach(&span),
    }
    span
}

/// Records the route and the status. `url.path` gets the route's template: a real path can contain
/// ids, and a path without a route can contain anything.
pub(super) fn describe(span: &Span, method: &str, route: Option<&str>, status: StatusCode) {
    if !is_recorded(span) {
        return;
    }
    span.record("http.response.status_code", status.as_u16());
    if let Some(route) = route {
        span.record("http.route", route);
        span.record("url.path", route);
        // `otel.name` has no effect after the start of the span.
        span.context().span().update_name(format!("{} {route}", span_name(method)));
    }
    if status.is_server_error() {
        span.record("error.type", status.as_str());
        span.set_status(Status::error(""));
    }
}

fn inbound_trace(request: &Request) -> Option<Traceparent> {
    if is_webhook(request.uri().path()) {
        return None;
    }
    let mut headers = request.headers().get_all("traceparent").iter();
    match (headers.next(), headers.next()) {
        (Some(only), None) => Traceparent::parse(only.to_str().ok()?).ok(),
        _ => None,
    }
}

/// Ignores repeated and trailing slashes, since they may be normalised away later.
fn is_webhook(path: &str) -> bool {
    path.split('/').filter(|segment| !segment.is_empty()).eq(WEBHOOK_PATH)
}

/// The method if the conventions list it, else `_OTHER`: clients can send any word.
pub(super) fn method_name(method: &Method) -> &'static str {
    match method.as_str() {
        "CONNECT" => "CONNECT",
        "DELETE" => "DELETE",
        "GET" => "GET",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        "PATCH" => "PATCH",
        "POST" => "POST",
        "PUT" => "PUT",
        "TRACE" => "TRACE",
        _ => "_OTHER",
    }
}

fn span_name(method: &str) -> &str {
    if method == "_OTHER" { "HTTP" } else { method }
}

fn protocol_version(version: Version) -> Option<&'static str> {
    match version {
        Version::HTTP_10 => Some("1.0"),
        Version::HTTP_11 => Some("1.1"),
        Version::HTTP_2 => Some("2"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use opentelemetry::trace::{SpanId, SpanKind};
    use opentelemetry_sdk::trace::SpanData;
    use poem::error::InternalServerError;
    use poem::middleware::{NormalizePath, TrailingSlash};
    use poem::{Endpoint, EndpointExt, Result, Route, get, handler, post};
    use poem_openapi::param::Path;
    use poem_openapi::payload::PlainText;
    use poem_openapi::{OpenApi, OpenApiService};

    use super::*;
    use crate::clock::SystemClock;
    use crate::http::middleware::{CorsRules, Middleware};
    use crate::telemetry::metrics::Metrics;
    use crate::telemetry::recording;
    use crate::telemetry::spans::current_trace;
    use crate::telemetry::topics::TopicLogs;

    const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[handler]
    fn show_trace() -> String {
        current_trace().map(|trace| trace.to_string()).unwrap_or_default()
    }

    #[handler]
    fn fail() -> Result<()> {
        Err(InternalServerError(std::io::Error::other("at /secret/path")))
    }

    #[handler]
    fn teapot() -> StatusCode {
        StatusCode::IM_A_TEAPOT
    }

    struct Tenants;

    #[OpenApi]
    impl Tenants {
        #[oai(path = "/tenants/:tenant", method = "get")]
        #[expect(clippy::unused_async, reason = "operations are async")]
        async fn tenant(&self, tenant: Path<String>) -> PlainText<String> {
            PlainText(tenant.0)
        }
    }

    fn app() -> impl Endpoint {
        let middleware = Arc::new(Middleware {
            metrics: Metrics::new(TopicLogs::none(), Arc::default()),
            cors: CorsRules::new(Vec::new(), Arc::new(SystemClock)),
            static_files: None,
        });
        Route::new()
            .at("/api/billing/webhook", post(show_trace))
            .at("/trace/:id", get(show_trace))
            .at("/fail", get(fail))
            .at("/teapot", get(teapot))
            .nest("/v1", OpenApiService::new(Tenants, "test", "1"))
            .around(move |next, request| middleware.clone().handle(next, request))
            .with(NormalizePath::new(TrailingSlash::Trim))
    }

    /// Returns the response's body and the server span.
    async fn send(method: Method, uri: &str, headers: &[(&'static str, &str)]) -> (String, SpanData) {
        let (exporter, _guard) = recording();
        let mut request =
            Request::builder().method(method).uri(uri.parse().expect("a URI")).header("host", "a");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = app().get_response(request.finish()).await;
        let body = response.into_body().into_string().await.expect("text");
        let mut spans = exporter.get_finished_spans().expect("spans");
        assert_eq!(spans.len(), 1);
        (body, spans.remove(0))
    }

    fn attribute(span: &SpanData, name: &str) -> Option<String> {
        span.attributes.iter().find(|attribute| attribute.key.as_str() == name).map(|a| a.value.to_string())
    }

    #[tokio::test]
    async fn span_has_the_route_and_no_ids_or_query() {
        let long = "x".repeat(1000);
        let headers = [("user-agent", long.as_str())];
        let (body, span) = send(Method::GET, "/trace/cus_secret?token=secret", &headers).await;
        assert_eq!(span.name, "GET /trace/:id");
        assert_eq!(span.span_kind, SpanKind::Server);
        assert_eq!(span.status, Status::Unset);
        let mut attributes: Vec<_> =
            span.attributes.iter().map(|a| (a.key.as_str().to_owned(), a.value.to_string())).collect();
        attributes.sort();
        let expected = [
            ("http.request.method", "GET"),
            ("http.response.status_code", "200"),
            ("http.route", "/trace/:id"),
            ("network.protocol.version", "1.1"),
            ("url.path", "/trace/:id"),
            ("url.scheme", "http"),
            ("user_agent.original", &"x".repeat(200)),
        ];
        assert_eq!(attributes, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert!(body.contains(&span.span_context.span_id().to_string()), "the handler runs inside the span");
    }

    #[tokio::test]
    async fn span_of_an_openapi_operation_has_its_full_route() {
        let (body, span) = send(Method::GET, "/v1/tenants/acme", &[]).await;
        assert_eq!(body, "acme");
        assert_eq!(span.name, "GET /v1/tenants/:param0", "poem-openapi numbers the parameters");
    }

    #[tokio::test]
    async fn span_without_a_route_has_only_the_method() {
        let (_, span) = send(Method::GET, "/wp-login.php", &[]).await;
        assert_eq!(span.name, "GET");
        assert_eq!(attribute(&span, "http.route"), None);
        assert_eq!(attribute(&span, "url.path"), None);
        assert_eq!(attribute(&span, "http.response.status_code").as_deref(), Some("404"));
        assert_eq!(span.status, Status::Unset);
    }

    #[tokio::test]
    async fn unknown_method_is_recorded_as_other() {
        let (_, span) = send(Method::from_bytes(b"BREW").expect("a method"), "/teapot", &[]).await;
        assert_eq!(span.name, "HTTP /teapot");
        assert_eq!(attribute(&span, "http.request.method").as_deref(), Some("_OTHER"));
    }

    #[tokio::test]
    async fn only_server_errors_mark_the_span_as_failed() {
        let (_, span) = send(Method::GET, "/fail", &[]).await;
        assert_eq!(span.name, "GET /fail");
        assert_eq!(span.status, Status::error(""));
        assert_eq!(attribute(&span, "error.type").as_deref(), Some("500"));
        assert_eq!(attribute(&span, "http.response.status_code").as_deref(), Some("500"));

        let (_, span) = send(Method::GET, "/teapot", &[]).await;
        assert_eq!(span.status, Status::Unset);
        assert_eq!(attribute(&span, "error.type"), None);
    }

    #[tokio::test]
    async fn inbound_trace_is_continued() {
        let (_, span) = send(Method::GET, "/trace/1", &[("traceparent", CALLER)]).await;
        let caller = Traceparent::parse(CALLER).expect("well-formed");
        assert_eq!(span.span_context.trace_id().to_bytes(), caller.trace_id().as_bytes());
        assert_eq!(span.parent_span_id.to_bytes(), caller.span_id());
    }

    #[tokio::test]
    async fn malformed_or_repeated_traceparent_starts_a_new_trace() {
        for headers in
            [vec![("traceparent", "00-nonsense")], vec![("traceparent", CALLER), ("traceparent", CALLER)]]
        {
            let (_, span) = send(Method::GET, "/trace/1", &headers).await;
            assert_eq!(span.parent_span_id, SpanId::INVALID, "{headers:?}");
        }
    }

    #[tokio::test]
    async fn webhook_ignores_inbound_traceparent() {
        let spellings = [
            "/api/billing/webhook",
            "/api/billing/webhook/",
            "//api/billing//webhook///",
            "/api/billing/webhook?a=/",
        ];
        for uri in spellings {
            let (body, span) = send(Method::POST, uri, &[("traceparent", CALLER)]).await;
            assert_eq!(span.name, "POST /api/billing/webhook", "{uri}");
            assert_eq!(span.parent_span_id, SpanId::INVALID, "{uri}");
            assert!(!body.contains("0af7651916cd43dd8448eb211c80319c"), "{uri}");
        }
    }
}
