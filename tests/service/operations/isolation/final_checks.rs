//! Checks at the end of a scenario: everything callers saw, log lines, spans, database rows and
//! command output.

use sea_orm::EntityTrait;

use super::leak_detector::STRANGER;
use super::simulation::Simulation;
use crate::support::app::ended_spans;

impl Simulation {
    /// Checks that each tenant has what it bought, and that nothing leaked.
    pub async fn check_outcome(&mut self) -> Result<(), String> {
        for who in 0..2 {
            self.check_subscription(who).await?;
            self.observe_tenant_show(who);
            self.end_stream(who);
        }
        let metrics = self.app.metrics().await;
        // Metrics must name neither tenant.
        self.leaks.saw(STRANGER, "the metrics", metrics);
        self.app.stop_service().await;

        let lines = self.app.all_lines();
        self.leaks.learn_from_lines(&lines);
        self.leaks.check_observations()?;
        for line in &lines {
            self.leaks.check_single_owner("a line", &line.to_string())?;
        }
        self.leaks.check_spans(&ended_spans()[self.spans_before..])?;
        self.check_rows().await
    }

    /// Compares the tenant's only open subscription with Stripe, so that a service that does
    /// nothing fails.
    async fn check_subscription(&mut self, who: usize) -> Result<(), String> {
        let open = self.open_subscriptions(who).await;
        let request = self.subscription_request(who);
        let response = self.call(who, "its final subscription", request).await?.ok();
        let [subscription] = open.as_slice() else { return Ok(()) };
        let item = &subscription["items"]["data"][0];
        let at_stripe = (&subscription["status"], &item["price"]["id"], &item["quantity"]);
        let here = (&response["status"], &response["price"], &response["quantity"]);
        if here == at_stripe { Ok(()) } else { Err(format!("{who} has {here:?}, at Stripe {at_stripe:?}")) }
    }

    fn observe_tenant_show(&mut self, who: usize) {
        let tenant = self.tenants[who].name.clone();
        for more in [vec!["--timeline", "--json"], vec!["--timeline"], vec!["--json"], vec![]] {
            let shown = self.app.run_command(&[vec!["tenant", "show", tenant.as_str()], more].concat());
            let text = [shown.stdout, shown.stderr].concat();
            self.leaks.saw(who, "`tenant show`", String::from_utf8(text).expect("text"));
        }
    }

    /// Checks that no row names two owners, except return paths that a user wrote and payloads that
    /// contain them.
    async fn check_rows(&self) -> Result<(), String> {
        self.check_table::<entity::tenant::Entity>(|_| ()).await?;
        self.check_table::<entity::subscription::Entity>(|_| ()).await?;
        self.check_table::<entity::transition::Entity>(|_| ()).await?;
        self.check_table::<entity::refresh::Entity>(|_| ()).await?;
        self.check_table::<entity::checkout::Entity>(|row| {
            (row.success_path, row.cancel_path) = (String::new(), String::new());
        })
        .await?;
        self.check_table::<entity::event::Entity>(|row| row.payload = None).await
    }

    async fn check_table<E: EntityTrait>(
        &self,
        remove_user_input: impl Fn(&mut E::Model),
    ) -> Result<(), String> {
        for mut row in self.app.database.rows::<E>().await {
            remove_user_input(&mut row);
            self.leaks.check_single_owner("a row", &format!("{row:?}"))?;
        }
        Ok(())
    }
}
