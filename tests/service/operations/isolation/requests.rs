//! Requests of users, services and strangers, and the responses they must get.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::leak_detector::STRANGER;
use super::scenario::{KnownEtag, SessionOwner, Step};
use super::simulation::{Affected, Simulation};
use super::stream_reader::StreamReader;
use crate::support::api_response::ApiResponse;
use crate::support::event_stream::STREAM;

const SUBSCRIPTION: &str = "/api/billing/subscription/";
const CHECKOUT: &str = "/api/billing/create-checkout-session/";
const PORTAL: &str = "/api/billing/create-portal-session/";

impl Simulation {
    /// Sends a request and records that the caller sees the response.
    pub async fn call(
        &mut self,
        by: usize,
        what: &str,
        request: RequestBuilder,
    ) -> Result<ApiResponse, String> {
        let response = self.app.call(request).await;
        self.leaks.saw(by, what, format!("{} {:?}\n{}", response.status, response.headers, response.text));
        if response.status.as_u16() >= 400 {
            let problem = response.json();
            self.leaks.owns(by, problem["trace_id"].as_str().expect("a trace"));
        }
        if let Some(tenant) = self.tenants.get_mut(by) {
            tenant.etags.extend(response.header("etag").map(str::to_owned));
            if response.status == 429 && !tenant.is_throttled {
                return Err(format!("{by} is throttled within its rate limit"));
            }
        } else if response.status == 429 {
            return Err("a stranger is throttled".to_owned());
        }
        Ok(response)
    }

    /// A request of the tenant's user, which names the other tenant if the step says so.
    fn user_request(&self, step: &Step, method: Method, path: &str) -> RequestBuilder {
        let token = self.app.token(&self.tenants[step.who].name);
        let other = &self.tenants[1 - step.who].name;
        if !step.names_other {
            return self.app.request(method, path).bearer_auth(token);
        }
        let path = format!("{path}?tenant={other}&tenant_id={other}&tenant_schema={other}&sub={other}");
        let request = self.app.request(method, &path).bearer_auth(token);
        ["X-Tenant", "X-Tenant-Id", "X-Forwarded-User", "Tenant", "Origin", "X-Request-Id"]
            .into_iter()
            .fold(request, |request, name| request.header(name, other))
            .header("X-Original-URL", format!("/api/billing/tenants/{other}/subscription/"))
            .header("Cookie", format!("tenant={other}; session={other}"))
            .header("Baggage", format!("tenant={other},billing.tenant.id={other}"))
            .header("Tracestate", format!("tenant={other}"))
    }

    fn user_post(&self, step: &Step, path: &str, body: &Value) -> RequestBuilder {
        let request = self.user_request(step, Method::POST, path).header("Content-Type", "application/json");
        request.body(body.to_string())
    }

    pub fn subscription_request(&self, who: usize) -> RequestBuilder {
        let token = self.app.token(&self.tenants[who].name);
        self.app.request(Method::GET, SUBSCRIPTION).bearer_auth(token)
    }

    pub async fn check_out(&mut self, step: &Step) -> Result<Affected, String> {
        let plan = self.tenants[step.who].plan;
        let mut body = json!({ "plan": plan });
        if step.names_other {
            let paths = self.path_naming_other(step.who);
            body = json!({ "plan": plan, "success_path": paths, "cancel_path": paths });
        }
        let response = self.call(step.who, "a checkout", self.user_post(step, CHECKOUT, &body)).await?;
        if response.status == 200 {
            let bought = response.json();
            let (session, url) = (&bought["session_id"], &bought["url"]);
            self.leaks.owns_all_in(step.who, session);
            self.leaks.owns(step.who, url.as_str().expect("a URL"));
            let session = session.as_str().expect("an id").to_owned();
            self.owners.insert(session.clone(), step.who);
            self.tenants[step.who].sessions.push(session);
        }
        Ok(Affected::One(step.who))
    }

    /// A path of the app with the other tenant's name and session.
    fn path_naming_other(&self, who: usize) -> String {
        let other = &self.tenants[1 - who];
        let session = other.sessions.last().map_or("cs_test_none", String::as_str);
        format!("/billing/{}?tenant={}&session_id={session}", other.name, other.name)
    }

    pub async fn open_portal(&mut self, step: &Step, flow: Option<&str>) -> Result<Affected, String> {
        let mut body = json!({ "flow": flow });
        if step.names_other {
            body["return_path"] = self.path_naming_other(step.who).into();
        }
        let response = self.call(step.who, "the portal", self.user_post(step, PORTAL, &body)).await?;
        if response.status == 200 {
            let url = response.json()["url"].as_str().expect("a URL").to_owned();
            self.leaks.owns(step.who, url.clone());
            self.tenants[step.who].portal_url = Some(url);
        }
        // If Stripe says that the customer was deleted, the tenant changes.
        Ok(Affected::One(step.who))
    }

    pub async fn refresh_checkout(&mut self, step: &Step, owner: SessionOwner) -> Result<Affected, String> {
        let owner = if matches!(owner, SessionOwner::This) { step.who } else { 1 - step.who };
        let Some(session) = self.tenants[owner].sessions.last().cloned() else { return Ok(Affected::None) };
        let path = |session: &str| format!("/api/billing/checkout-sessions/{session}/refresh/");
        let request = self.user_request(step, Method::POST, &path(&session));
        let response = self.call(step.who, "a refresh", request).await?;
        if owner == step.who {
            return Ok(Affected::One(owner));
        }
        let request = self.user_request(step, Method::POST, &path(&unknown_session()));
        let unknown = self.call(step.who, "the refresh of an unknown session", request).await?;
        are_indistinguishable(&response, &unknown).map(|()| Affected::None)
    }

    /// A 304 for the ETag of the current state, and a 200 otherwise.
    pub async fn read(&mut self, step: &Step, known: KnownEtag) -> Result<Affected, String> {
        let request = self.user_request(step, Method::GET, SUBSCRIPTION);
        let own = self.tenants[step.who].etag.clone();
        self.read_with_etags(step.who, request, &own, known).await
    }

    pub async fn read_as_service(&mut self, step: &Step, known: KnownEtag) -> Result<Affected, String> {
        let [who, other] = [step.who, 1 - step.who].map(|who| self.tenants[who].name.clone());
        let path = format!("/api/billing/tenants/{who}/subscription/");
        let token = self.app.token_with(&json!({ "tenant": other, "scope": "billing:service" }));
        let request = || self.app.request(Method::GET, &path).bearer_auth(&token);
        // A service gets other fields about the caller than a user, and so another ETag.
        let (first, again) = (request(), request());
        let first = self.call(step.who, "a subscription", first).await?;
        let own = first.header("etag").unwrap_or_default().to_owned();
        self.read_with_etags(step.who, again, &own, known).await
    }

    async fn read_with_etags(
        &mut self,
        who: usize,
        mut request: RequestBuilder,
        own: &str,
        known: KnownEtag,
    ) -> Result<Affected, String> {
        let tags = self.tags(who, own, known);
        let is_known = matches!(known, KnownEtag::Own | KnownEtag::OtherAndOwn | KnownEtag::Any);
        if let Some(tags) = &tags {
            request = request.header("If-None-Match", tags);
        }
        let response = self.call(who, "a subscription", request).await?;
        let etag = response.header("etag").unwrap_or_default();
        let expected = if is_known { 304 } else { 200 };
        if response.status != expected || etag != own {
            return Err(format!("{who} sent {tags:?} and got {response:?}"));
        }
        Ok(Affected::None)
    }

    fn tags(&self, who: usize, own: &str, known: KnownEtag) -> Option<String> {
        let other = &self.tenants[1 - who].etag;
        match known {
            KnownEtag::None => None,
            KnownEtag::Own => Some(own.to_owned()),
            KnownEtag::Other => Some(format!("W/{other}, {other}")),
            KnownEtag::OtherAndOwn => Some(format!("{other}, W/{own}")),
            KnownEtag::Any => Some("*".to_owned()),
        }
    }

    /// Replaces the tenant's stream with a new one.
    pub async fn follow(&mut self, step: &Step, known: KnownEtag) -> Result<Affected, String> {
        let request = self.user_request(step, Method::GET, STREAM);
        let known = self.tags(step.who, &self.tenants[step.who].etag, known);
        let stream = StreamReader::open(request, known).await?;
        self.end_stream(step.who);
        self.tenants[step.who].stream = stream;
        Ok(Affected::One(step.who))
    }

    /// Records what the tenant saw on its stream.
    pub fn end_stream(&mut self, who: usize) {
        let stream = &self.tenants[who].stream;
        self.tenants[who].etags.extend(stream.subscriptions().into_iter().map(|(etag, _)| etag));
        self.leaks.saw(who, "its stream", stream.text());
    }

    pub async fn read_other_tenant(&mut self, step: &Step) -> Result<Affected, String> {
        let path = format!("/api/billing/tenants/{}/subscription/", self.tenants[1 - step.who].name);
        let request = self.user_request(step, Method::GET, &path);
        let response = self.call(step.who, "the other tenant's subscription", request).await?;
        expect_status(&response, 403).map(|()| Affected::None)
    }

    pub async fn impersonate(&mut self, step: &Step) -> Result<Affected, String> {
        let other = &self.tenants[1 - step.who];
        let (tenant, session) = (other.name.clone(), other.sessions.last().cloned());
        let customer = self.customer_of(1 - step.who).await;
        for (path, body) in [
            (CHECKOUT, json!({ "tenant": tenant, "tenant_id": tenant })),
            (CHECKOUT, json!({ "customer": customer, "client_reference_id": tenant })),
            (CHECKOUT, json!({ "session_id": session, "metadata": { "tenant_id": tenant } })),
            (PORTAL, json!({ "customer": customer, "tenant": tenant })),
        ] {
            let response = self.call(step.who, "an impersonation", self.user_post(step, path, &body)).await?;
            if response.status != 429 {
                expect_status(&response, 400)?;
            }
        }
        Ok(Affected::None)
    }

    /// Exceeding the rate limit throttles one tenant and not the other.
    pub async fn exceed_rate_limit(&mut self, step: &Step) -> Result<Affected, String> {
        self.tenants[step.who].is_throttled = true;
        let invalid = json!("invalid");
        while self.call(step.who, "invalid", self.user_post(step, PORTAL, &invalid)).await?.status != 429 {}
        let other = Step { who: 1 - step.who, ..step.clone() };
        self.call(other.who, "invalid", self.user_post(&other, PORTAL, &invalid)).await?;
        Ok(Affected::None)
    }

    pub async fn call_user_endpoints_as_service(&mut self, step: &Step) -> Result<Affected, String> {
        let tenant = &self.tenants[step.who].name;
        let token = self.app.token_with(&json!({ "tenant": tenant, "scope": "billing:service" }));
        let session = self.tenants[step.who].sessions.last().cloned().unwrap_or_else(unknown_session);
        let refresh = format!("/api/billing/checkout-sessions/{session}/refresh/");
        for (method, path) in [
            (Method::GET, SUBSCRIPTION),
            (Method::GET, STREAM),
            (Method::POST, CHECKOUT),
            (Method::POST, PORTAL),
            (Method::POST, &refresh),
        ] {
            let request = self.app.request(method, path).bearer_auth(&token);
            expect_status(&self.call(STRANGER, "a user endpoint", request).await?, 403)?;
        }
        Ok(Affected::None)
    }

    /// A tenant without billing that knows a tenant's name, session and ETag, and callers without a
    /// valid token.
    pub async fn send_as_strangers(&mut self, step: &Step) -> Result<Affected, String> {
        let (tenant, etag) = (self.tenants[step.who].name.clone(), self.tenants[step.who].etag.clone());
        let session = self.tenants[step.who].sessions.last().cloned().unwrap_or_else(unknown_session);
        let token = self.app.token(&self.stranger);
        let other_path = format!("/api/billing/tenants/{tenant}/subscription/");
        let refresh = |session: &str| format!("/api/billing/checkout-sessions/{session}/refresh/");
        for (method, path, status) in [
            (Method::GET, SUBSCRIPTION, 200),
            (Method::GET, &other_path, 403),
            (Method::POST, &refresh(&session), 404),
            (Method::POST, PORTAL, 409),
        ] {
            let request = |token| self.app.request(method.clone(), path).bearer_auth(token);
            let known = request(token.as_str()).header("If-None-Match", &etag);
            expect_status(&self.call(STRANGER, path, known).await?, status)?;
            for token in ["", "a.b.c"] {
                let request = self.app.request(method.clone(), path).bearer_auth(token);
                expect_status(&self.call(STRANGER, path, request).await?, 401)?;
            }
        }
        let request = self.app.request(Method::GET, STREAM).bearer_auth(&token);
        let stream = StreamReader::open(request, Some(etag.clone())).await?;
        let first = crate::support::app::poll_until_deadline(|| async { stream.subscriptions().pop() }).await;
        self.leaks.saw(STRANGER, "its stream", stream.text());
        if first.is_none() {
            return Err(format!("a stranger with {etag} receives nothing: {}", stream.text()));
        }
        Ok(Affected::None)
    }
}

fn expect_status(response: &ApiResponse, status: u16) -> Result<(), String> {
    if response.status == status { Ok(()) } else { Err(format!("not {status}: {response:?}")) }
}

fn unknown_session() -> String {
    let chance = [uuid::Uuid::new_v4(), uuid::Uuid::new_v4()].map(|chance| chance.simple().to_string());
    format!("cs_test_a1{}", &chance.concat()[..56])
}

/// Checks that another tenant's session and an unknown one get the same response.
fn are_indistinguishable(other: &ApiResponse, unknown: &ApiResponse) -> Result<(), String> {
    if [other, unknown].iter().any(|response| response.status == 429) {
        return Ok(());
    }
    expect_status(other, 404)?;
    if other.without_trace_id() == unknown.without_trace_id() {
        Ok(())
    } else {
        Err(format!("the other tenant's session gets {other:?}, an unknown one {unknown:?}"))
    }
}
