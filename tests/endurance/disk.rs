//! SQLite's disk is full for a while. The service stays, stores nothing that it cannot, and goes on by itself.

use std::env;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;
use tempfile::TempDir;

use crate::running::Running;
use crate::sender::Load;

/// Room for all that the load stores, and little enough to be filled at once.
const DISK: &str = "size=64m";

const TENANT: &str = "a-tenant";

/// On a disk of its own, which a file fills to the last page. Its mount is seen by the service alone, and gone with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_disk_is_full_stripe_is_told_to_come_again_and_room_is_enough() {
    let dir = TempDir::new().expect("a directory");
    let disk = dir.path().join("disk");
    fs::create_dir(&disk).expect("a directory to mount on");
    let Some(launcher) = with_a_disk_at(&disk) else {
        eprintln!("mounting is not permitted here: only the story of the files' limit is told");
        return;
    };
    let service = Running::start_by(launcher, dir, &sqlite(&disk)).await;
    let disk = seen_by(&service, &disk);
    let load = Load::on(&service);
    for _ in 0..rounds() {
        load.until_taken(50).await;
        let filler = disk.join("filler");
        fill(&filler);
        load.until_refused(20).await;
        assert_answers(&service).await;
        service.until_not_ready().await;
        fs::remove_file(&filler).expect("there is room again");
        load.until_taken(50).await;
        service.until_ready().await;
    }
    let (ledger, tally) = load.end().await;
    tally.assert_every_request_was_answered();
    let copy = copied_from(&disk);
    ledger.assert_kept_in(&sqlite(copy.path())).await;
}

/// No file grows beyond a limit for a while; this one needs no permission.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_its_files_may_not_grow_stripe_is_told_to_come_again_and_the_limits_end_is_enough() {
    let dir = TempDir::new().expect("a directory");
    let url = sqlite(dir.path());
    // Otherwise the first write beyond the limit would be the process's end.
    let launcher = words(&["sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh"]);
    let service = Running::start_by(launcher, dir, &url).await;
    let load = Load::on(&service);
    for _ in 0..rounds() {
        load.until_taken(50).await;
        limit_files(&service, "4096:unlimited");
        load.until_refused(20).await;
        assert_answers(&service).await;
        service.until_not_ready().await;
        limit_files(&service, "unlimited:unlimited");
        load.until_taken(50).await;
        service.until_ready().await;
    }
    let (ledger, tally) = load.end().await;
    tally.assert_every_request_was_answered();
    ledger.assert_kept_in(&url).await;
}

fn rounds() -> usize {
    if env::var_os("BILLHOOK_SOAK").is_some() { 10 } else { 2 }
}

/// A look needs no room, but a connection to look through may have to be opened anew, and that does.
async fn assert_answers(service: &Running) {
    let (status, answer) = service.show(TENANT).await;
    match status {
        200 => assert_eq!(answer["plan"], "free", "{answer}"),
        _ => assert_eq!((status, &answer["code"]), (503, &json!("unavailable")), "{answer}"),
    }
}

/// The database where we can read it: SQLite would follow the way through the process to a directory of ours.
fn copied_from(disk: &Path) -> TempDir {
    let dir = TempDir::new().expect("a directory");
    for name in ["billhook.db", "billhook.db-wal"] {
        fs::copy(disk.join(name), dir.path().join(name)).expect("the file is copied");
    }
    dir
}

/// A program that mounts a small disk, which it alone sees, and goes on as another; if we are permitted to, as root or
/// as anybody.
fn with_a_disk_at(disk: &Path) -> Option<Vec<String>> {
    let mount = format!("mount -t tmpfs -o {DISK} tmpfs '{}' && exec \"$@\"", disk.display());
    let ways = ["--mount", "--user --map-root-user --mount"];
    let launchers = ways.map(|way| {
        let unshare = std::iter::once("unshare").chain(way.split(' '));
        words(&unshare.chain(["sh", "-c", &mount, "sh"]).collect::<Vec<_>>())
    });
    launchers.into_iter().find(|launcher| leads_anywhere(launcher))
}

fn leads_anywhere(launcher: &[String]) -> bool {
    let output = Command::new(&launcher[0]).args(&launcher[1..]).arg("true").output();
    output.is_ok_and(|output| output.status.success())
}

pub fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

/// The directory as the service sees it.
fn seen_by(service: &Running, path: &Path) -> PathBuf {
    Path::new("/proc")
        .join(service.id().to_string())
        .join("root")
        .join(path.strip_prefix("/").expect("absolute"))
}

pub fn sqlite(dir: &Path) -> String {
    format!("sqlite://{}/billhook.db", dir.display())
}

/// Writes until there is no room.
fn fill(path: &Path) {
    let mut file = File::create(path).expect("a file");
    let mut size = 1 << 20;
    while size > 0 {
        match file.write(&vec![b'.'; size]) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::StorageFull => size /= 2,
            Err(error) => panic!("{error}"),
        }
    }
}

fn limit_files(service: &Running, limit: &str) {
    let status = Command::new("prlimit")
        .args(["--pid", &service.id().to_string(), &format!("--fsize={limit}")])
        .stdin(Stdio::null())
        .status();
    assert!(status.expect("prlimit runs").success());
}
