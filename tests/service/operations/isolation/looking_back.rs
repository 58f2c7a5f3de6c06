//! What is left of a tale when it is over: answers that were seen, lines, spans, rows, and what the command line shows.

use sea_orm::EntityTrait;

use super::play::Play;
use super::witness::STRANGER;
use crate::support::app::ended_spans;

impl Play {
    /// All is delivered: each has what it paid for, and nobody ever saw anything of another's.
    pub async fn look_back(&mut self) -> Result<(), String> {
        for who in 0..2 {
            self.has_what_it_paid_for(who).await?;
            self.show_at_the_command_line(who);
            self.end_stream(who);
        }
        let metrics = self.app.metrics().await;
        // Nobody's names are there, so that it does not matter who looks.
        self.witness.saw(STRANGER, "the metrics", metrics);
        self.app.go_down().await;

        let lines = self.app.all_lines();
        self.witness.learn_from_lines(&lines);
        self.witness.check_what_was_seen()?;
        for line in &lines {
            self.witness.check_apart("a line", &line.to_string())?;
        }
        self.witness.check_spans(&ended_spans()[self.spans_before..])?;
        self.check_rows().await
    }

    /// So that a tale in which nothing happens is no proof.
    async fn has_what_it_paid_for(&mut self, who: usize) -> Result<(), String> {
        let living = self.living_subscriptions(who).await;
        let request = self.reading(who);
        let answer = self.call(who, "its subscription in the end", request).await?.ok();
        let [subscription] = living.as_slice() else { return Ok(()) };
        let item = &subscription["items"]["data"][0];
        let at_stripe = (&subscription["status"], &item["price"]["id"], &item["quantity"]);
        let here = (&answer["status"], &answer["price"], &answer["quantity"]);
        if here == at_stripe { Ok(()) } else { Err(format!("{who} has {here:?}, at Stripe {at_stripe:?}")) }
    }

    fn show_at_the_command_line(&mut self, who: usize) {
        let tenant = self.parties[who].tenant.clone();
        for more in [vec!["--timeline", "--json"], vec!["--timeline"], vec!["--json"], vec![]] {
            let shown = self.app.run_command(&[vec!["tenant", "show", tenant.as_str()], more].concat());
            let text = [shown.stdout, shown.stderr].concat();
            self.witness.saw(who, "`tenant show`", String::from_utf8(text).expect("text"));
        }
    }

    /// No row has ids of two, but for what a tenant's user wrote: the paths to return to, and what Stripe sent of them.
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

    async fn check_table<E: EntityTrait>(&self, leave_out: impl Fn(&mut E::Model)) -> Result<(), String> {
        for mut row in self.app.database.rows::<E>().await {
            leave_out(&mut row);
            self.witness.check_apart("a row", &format!("{row:?}"))?;
        }
        Ok(())
    }
}
