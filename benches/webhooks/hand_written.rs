//! Runs the handler that teams write by hand: `hand_written/server.mjs`.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::service::{BenchDatabase, WEBHOOK_SECRET};

pub struct HandWritten {
    pub address: SocketAddr,
    child: Child,
}

impl HandWritten {
    /// Needs a PostgreSQL database. `make bench` installs its npm modules.
    pub fn start(database: &BenchDatabase) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/webhooks/hand_written/server.mjs");
        let mut child = Command::new("node")
            .arg(script)
            .env("NODE_ENV", "production")
            .env("DATABASE_URL", &database.url)
            .env("STRIPE_WEBHOOK_SECRET", WEBHOOK_SECRET)
            .stdout(Stdio::piped())
            .spawn()
            .expect("node runs");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("its output");
        BufReader::new(stdout).read_line(&mut line).expect("its address");
        Self { address: line.trim().parse().expect("an address"), child }
    }

    pub fn process_id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for HandWritten {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
