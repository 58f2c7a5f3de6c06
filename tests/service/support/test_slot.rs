//! A slot and a timeout for each test, since `cargo test` runs all tests of a binary in one
//! process. The slots limit how many tests run at once. The timeout reports a test that hangs by
//! its name.

use std::cell::OnceCell;
use std::env;
use std::io::{Write, stderr};
use std::process::{self, Command};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Many times longer than the slowest test takes on a busy machine.
const TEST_TIMEOUT: Duration = Duration::from_mins(10);

/// With `BILLHOOK_SOAK` set.
const SOAK_TIMEOUT: Duration = Duration::from_hours(1);

/// Overrides the timeout, in seconds.
pub const TIMEOUT_VARIABLE: &str = "BILLHOOK_TEST_TIMEOUT_SECONDS";

/// The limit on open files that all tests of a process need. A shell's default is lower.
const OPEN_FILE_LIMIT: u64 = 16 * 1024;

/// A test's slot, and the sender that restarts its timeout.
struct TestSlot {
    _permit: SemaphorePermit<'static>,
    restart: Sender<()>,
}

thread_local! {
    /// Each test runs on a thread of its own, and its slot is dropped with the thread. That is
    /// after the test's last line: the timeout includes the shutdown of its runtime.
    static SLOT: OnceCell<TestSlot> = const { OnceCell::new() };
}

/// Waits until the calling test may run, unless it runs already, and starts its timeout. With one
/// test thread all tests share the main thread, so that a second call restarts the timeout.
pub async fn acquire_slot(slots: &'static Semaphore) {
    if SLOT.with(|slot| slot.get().is_none()) {
        let permit = slots.acquire().await.expect("the semaphore is never closed");
        let slot = TestSlot { _permit: permit, restart: start_timeout() };
        SLOT.with(|new| new.set(slot).ok()).expect("a thread runs one test");
    }
    // The receiver is dropped only when the process ends.
    SLOT.with(|slot| _ = slot.get().map(|slot| slot.restart.send(())));
}

/// Raises this process's limit on open files.
pub fn raise_file_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(OPEN_FILE_LIMIT, |maximum| maximum.min(OPEN_FILE_LIMIT));
    if current.is_some_and(|current| current < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).expect("the limit is raised");
    }
}

fn start_timeout() -> Sender<()> {
    let test = thread::current().name().unwrap_or("unnamed").to_owned();
    let timeout = test_timeout();
    let (restart, restarts) = channel();
    thread::spawn(move || {
        loop {
            match restarts.recv_timeout(timeout) {
                Ok(()) => {}
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => end_process(&test, timeout),
            }
        }
    });
    restart
}

fn test_timeout() -> Duration {
    if let Ok(seconds) = env::var(TIMEOUT_VARIABLE) {
        return Duration::from_secs(seconds.parse().expect("a number of seconds"));
    }
    if env::var_os("BILLHOOK_SOAK").is_some() { SOAK_TIMEOUT } else { TEST_TIMEOUT }
}

/// A thread cannot end another, so the whole binary fails. Destructors do not run, so this
/// terminates the child processes.
fn end_process(test: &str, timeout: Duration) -> ! {
    // `eprintln` would be captured with the output of the test.
    let _ = writeln!(stderr(), "\nFAILED: test {test} hangs: it has not ended within {timeout:?}");
    let _ = Command::new("pkill").args(["-TERM", "-P", &process::id().to_string()]).status();
    process::exit(101);
}
