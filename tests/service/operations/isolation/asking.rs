//! What users, services and strangers ask of the service, and what they must be answered.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::follower::Follower;
use super::play::{Concerns, Play};
use super::tale::{Known, Step, Whose};
use super::witness::STRANGER;
use crate::support::answer::Answer;
use crate::support::event_stream::STREAM;

const SUBSCRIPTION: &str = "/api/billing/subscription/";
const CHECKOUT: &str = "/api/billing/create-checkout-session/";
const PORTAL: &str = "/api/billing/create-portal-session/";

impl Play {
    /// Sends a request for somebody, who sees the answer.
    pub async fn call(&mut self, by: usize, what: &str, request: RequestBuilder) -> Result<Answer, String> {
        let answer = self.app.call(request).await;
        self.witness.saw(by, what, format!("{} {:?}\n{}", answer.status, answer.headers, answer.text));
        if answer.status.as_u16() >= 400 {
            let problem = answer.json();
            self.witness.owns(by, problem["trace_id"].as_str().expect("a trace"));
        }
        if let Some(party) = self.parties.get_mut(by) {
            party.given.extend(answer.header("etag").map(str::to_owned));
            if answer.status == 429 && !party.is_throttled {
                return Err(format!("{by} is throttled, and has not asked too often"));
            }
        } else if answer.status == 429 {
            return Err("a stranger is throttled".to_owned());
        }
        Ok(answer)
    }

    /// A request of the tenant's user, to wherever the step leads.
    fn asking(&self, step: &Step, method: Method, path: &str) -> RequestBuilder {
        let token = self.app.token(&self.parties[step.who].tenant);
        let other = &self.parties[1 - step.who].tenant;
        if !step.names_the_other {
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

    fn posting(&self, step: &Step, path: &str, body: &Value) -> RequestBuilder {
        let request = self.asking(step, Method::POST, path).header("Content-Type", "application/json");
        request.body(body.to_string())
    }

    pub fn reading(&self, who: usize) -> RequestBuilder {
        let token = self.app.token(&self.parties[who].tenant);
        self.app.request(Method::GET, SUBSCRIPTION).bearer_auth(token)
    }

    pub async fn check_out(&mut self, step: &Step) -> Result<Concerns, String> {
        let plan = self.parties[step.who].plan;
        let mut body = json!({ "plan": plan });
        if step.names_the_other {
            let paths = self.path_naming_the_other(step.who);
            body = json!({ "plan": plan, "success_path": paths, "cancel_path": paths });
        }
        let answer = self.call(step.who, "a checkout", self.posting(step, CHECKOUT, &body)).await?;
        if answer.status == 200 {
            let bought = answer.json();
            let (session, url) = (&bought["session_id"], &bought["url"]);
            self.witness.owns_all_in(step.who, session);
            self.witness.owns(step.who, url.as_str().expect("a URL"));
            let session = session.as_str().expect("an id").to_owned();
            self.owners.insert(session.clone(), step.who);
            self.parties[step.who].sessions.push(session);
        }
        Ok(Concerns::One(step.who))
    }

    /// A path of the app, with all of the other's that a user may have heard of.
    fn path_naming_the_other(&self, who: usize) -> String {
        let other = &self.parties[1 - who];
        let session = other.sessions.last().map_or("cs_test_none", String::as_str);
        format!("/billing/{}?tenant={}&session_id={session}", other.tenant, other.tenant)
    }

    pub async fn open_portal(&mut self, step: &Step, flow: Option<&str>) -> Result<Concerns, String> {
        let mut body = json!({ "flow": flow });
        if step.names_the_other {
            body["return_path"] = self.path_naming_the_other(step.who).into();
        }
        let answer = self.call(step.who, "the portal", self.posting(step, PORTAL, &body)).await?;
        if answer.status == 200 {
            let url = answer.json()["url"].as_str().expect("a URL").to_owned();
            self.witness.owns(step.who, url.clone());
            self.parties[step.who].portal_url = Some(url);
        }
        // A customer that Stripe says was deleted ends there and then.
        Ok(Concerns::One(step.who))
    }

    pub async fn ask_after_checkout(&mut self, step: &Step, whose: Whose) -> Result<Concerns, String> {
        let of = if matches!(whose, Whose::Own) { step.who } else { 1 - step.who };
        let Some(session) = self.parties[of].sessions.last().cloned() else { return Ok(Concerns::Nobody) };
        let path = |session: &str| format!("/api/billing/checkout-sessions/{session}/refresh/");
        let request = self.asking(step, Method::POST, &path(&session));
        let answer = self.call(step.who, "a refresh", request).await?;
        if of == step.who {
            return Ok(Concerns::One(of));
        }
        let request = self.asking(step, Method::POST, &path(&nobodys_session()));
        let nobodys = self.call(step.who, "the refresh of nothing", request).await?;
        cannot_be_told_apart(&answer, &nobodys).map(|()| Concerns::Nobody)
    }

    /// Whoever has the present state is told so, and nobody else is.
    pub async fn read(&mut self, step: &Step, known: Known) -> Result<Concerns, String> {
        let request = self.asking(step, Method::GET, SUBSCRIPTION);
        let own = self.parties[step.who].etag.clone();
        self.read_knowing(step.who, request, &own, known).await
    }

    pub async fn read_as_service(&mut self, step: &Step, known: Known) -> Result<Concerns, String> {
        let [who, other] = [step.who, 1 - step.who].map(|who| self.parties[who].tenant.clone());
        let path = format!("/api/billing/tenants/{who}/subscription/");
        let token = self.app.token_with(&json!({ "tenant": other, "scope": "billing:service" }));
        let request = || self.app.request(Method::GET, &path).bearer_auth(&token);
        // What is said of the bearer is another thing to a service, and so has another ETag.
        let (first, again) = (request(), request());
        let first = self.call(step.who, "a subscription", first).await?;
        let own = first.header("etag").unwrap_or_default().to_owned();
        self.read_knowing(step.who, again, &own, known).await
    }

    async fn read_knowing(
        &mut self,
        who: usize,
        mut request: RequestBuilder,
        own: &str,
        known: Known,
    ) -> Result<Concerns, String> {
        let tags = self.tags(who, own, known);
        let is_known = matches!(known, Known::Own | Known::OthersAndOwn | Known::Anything);
        if let Some(tags) = &tags {
            request = request.header("If-None-Match", tags);
        }
        let answer = self.call(who, "a subscription", request).await?;
        let etag = answer.header("etag").unwrap_or_default();
        let expected = if is_known { 304 } else { 200 };
        if answer.status != expected || etag != own {
            return Err(format!("{who}, who has {tags:?}, is answered {answer:?}"));
        }
        Ok(Concerns::Nobody)
    }

    fn tags(&self, who: usize, own: &str, known: Known) -> Option<String> {
        let others = &self.parties[1 - who].etag;
        match known {
            Known::Nothing => None,
            Known::Own => Some(own.to_owned()),
            Known::Others => Some(format!("W/{others}, {others}")),
            Known::OthersAndOwn => Some(format!("{others}, W/{own}")),
            Known::Anything => Some("*".to_owned()),
        }
    }

    /// Opens another stream in place of the one that there is.
    pub async fn follow(&mut self, step: &Step, known: Known) -> Result<Concerns, String> {
        let request = self.asking(step, Method::GET, STREAM);
        let known = self.tags(step.who, &self.parties[step.who].etag, known);
        let stream = Follower::open(request, known).await?;
        self.end_stream(step.who);
        self.parties[step.who].stream = stream;
        Ok(Concerns::One(step.who))
    }

    /// What came on a stream is looked at when it is over.
    pub fn end_stream(&mut self, who: usize) {
        let stream = &self.parties[who].stream;
        self.parties[who].given.extend(stream.told().into_iter().map(|(etag, _)| etag));
        self.witness.saw(who, "its stream", stream.heard());
    }

    pub async fn trespass(&mut self, step: &Step) -> Result<Concerns, String> {
        let path = format!("/api/billing/tenants/{}/subscription/", self.parties[1 - step.who].tenant);
        let request = self.asking(step, Method::GET, &path);
        let answer = self.call(step.who, "the other's subscription", request).await?;
        is(&answer, 403).map(|()| Concerns::Nobody)
    }

    pub async fn impersonate(&mut self, step: &Step) -> Result<Concerns, String> {
        let other = &self.parties[1 - step.who];
        let (tenant, session) = (other.tenant.clone(), other.sessions.last().cloned());
        let customer = self.customer_of(1 - step.who).await;
        for (path, body) in [
            (CHECKOUT, json!({ "tenant": tenant, "tenant_id": tenant })),
            (CHECKOUT, json!({ "customer": customer, "client_reference_id": tenant })),
            (CHECKOUT, json!({ "session_id": session, "metadata": { "tenant_id": tenant } })),
            (PORTAL, json!({ "customer": customer, "tenant": tenant })),
        ] {
            let answer = self.call(step.who, "an impersonation", self.posting(step, path, &body)).await?;
            if answer.status != 429 {
                is(&answer, 400)?;
            }
        }
        Ok(Concerns::Nobody)
    }

    /// One that asks too often is turned away, and the other is not.
    pub async fn exhaust(&mut self, step: &Step) -> Result<Concerns, String> {
        self.parties[step.who].is_throttled = true;
        let nonsense = json!("nonsense");
        while self.call(step.who, "nonsense", self.posting(step, PORTAL, &nonsense)).await?.status != 429 {}
        let other = Step { who: 1 - step.who, ..step.clone() };
        self.call(other.who, "nonsense", self.posting(&other, PORTAL, &nonsense)).await?;
        Ok(Concerns::Nobody)
    }

    pub async fn overreach_as_service(&mut self, step: &Step) -> Result<Concerns, String> {
        let tenant = &self.parties[step.who].tenant;
        let token = self.app.token_with(&json!({ "tenant": tenant, "scope": "billing:service" }));
        let session = self.parties[step.who].sessions.last().cloned().unwrap_or_else(nobodys_session);
        let refresh = format!("/api/billing/checkout-sessions/{session}/refresh/");
        for (method, path) in [
            (Method::GET, SUBSCRIPTION),
            (Method::GET, STREAM),
            (Method::POST, CHECKOUT),
            (Method::POST, PORTAL),
            (Method::POST, &refresh),
        ] {
            let request = self.app.request(method, path).bearer_auth(&token);
            is(&self.call(STRANGER, "what a service may not", request).await?, 403)?;
        }
        Ok(Concerns::Nobody)
    }

    /// A tenant without billing that knows the other's name, its session and its ETag; then the same without a token.
    pub async fn strangers(&mut self, step: &Step) -> Result<Concerns, String> {
        let (tenant, etag) = (self.parties[step.who].tenant.clone(), self.parties[step.who].etag.clone());
        let session = self.parties[step.who].sessions.last().cloned().unwrap_or_else(nobodys_session);
        let token = self.app.token(&self.stranger);
        let trespass = format!("/api/billing/tenants/{tenant}/subscription/");
        let refresh = |session: &str| format!("/api/billing/checkout-sessions/{session}/refresh/");
        for (method, path, status) in [
            (Method::GET, SUBSCRIPTION, 200),
            (Method::GET, &trespass, 403),
            (Method::POST, &refresh(&session), 404),
            (Method::POST, PORTAL, 409),
        ] {
            let request = |token| self.app.request(method.clone(), path).bearer_auth(token);
            let known = request(token.as_str()).header("If-None-Match", &etag);
            is(&self.call(STRANGER, path, known).await?, status)?;
            for token in ["", "a.b.c"] {
                let request = self.app.request(method.clone(), path).bearer_auth(token);
                is(&self.call(STRANGER, path, request).await?, 401)?;
            }
        }
        let request = self.app.request(Method::GET, STREAM).bearer_auth(&token);
        let stream = Follower::open(request, Some(etag.clone())).await?;
        let first = crate::support::app::until_deadline(|| async { stream.told().pop() }).await;
        self.witness.saw(STRANGER, "its stream", stream.heard());
        if first.is_none() {
            return Err(format!("a stranger who has {etag} is told nothing: {}", stream.heard()));
        }
        Ok(Concerns::Nobody)
    }
}

fn is(answer: &Answer, status: u16) -> Result<(), String> {
    if answer.status == status { Ok(()) } else { Err(format!("not {status}: {answer:?}")) }
}

fn nobodys_session() -> String {
    let chance = [uuid::Uuid::new_v4(), uuid::Uuid::new_v4()].map(|chance| chance.simple().to_string());
    format!("cs_test_a1{}", &chance.concat()[..56])
}

/// What is another's is answered as what is nobody's.
fn cannot_be_told_apart(others: &Answer, nobodys: &Answer) -> Result<(), String> {
    if [others, nobodys].iter().any(|answer| answer.status == 429) {
        return Ok(());
    }
    is(others, 404)?;
    if others.but_for_its_trace() == nobodys.but_for_its_trace() {
        Ok(())
    } else {
        Err(format!("another's is answered {others:?}, and nobody's {nobodys:?}"))
    }
}
