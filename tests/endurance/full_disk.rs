//! SQLite's disk is full for a while. The service keeps running, answers 503, and recovers without
//! a restart.

use std::env;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;
use tempfile::TempDir;

use crate::load::Load;
use crate::service_process::ServiceProcess;

/// Enough for the load, and small enough to be filled quickly.
const TMPFS_OPTIONS: &str = "size=64m";

const TENANT: &str = "a-tenant";

/// The database is on a tmpfs, which a file fills to the last page. Only the service sees the
/// mount, and it ends with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_disk_returns_503_then_recovers() {
    let dir = TempDir::new().expect("a directory");
    let disk = dir.path().join("disk");
    fs::create_dir(&disk).expect("a directory to mount on");
    let Some(launcher) = launcher_with_tmpfs(&disk) else {
        eprintln!("skipped: mounting is not permitted here");
        return;
    };
    let service = ServiceProcess::start_by(launcher, dir, &sqlite_url(&disk)).await;
    let disk = path_in_service(&service, &disk);
    let load = Load::start(&service);
    for _ in 0..rounds() {
        load.until_accepted(50).await;
        let filler = disk.join("filler");
        fill(&filler);
        load.until_503(20).await;
        assert_read_is_answered(&service).await;
        service.until_not_ready().await;
        fs::remove_file(&filler).expect("the filler is removed");
        load.until_accepted(50).await;
        service.until_ready().await;
    }
    let (ledger, stats) = load.finish().await;
    stats.assert_no_connection_broke();
    let copy = copy_database(&disk);
    ledger.assert_matches(&sqlite_url(copy.path())).await;
}

/// `RLIMIT_FSIZE` stops the files from growing. Needs no permission to mount.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn file_size_limit_returns_503_then_recovers() {
    let dir = TempDir::new().expect("a directory");
    let url = sqlite_url(dir.path());
    // Ignores SIGXFSZ, which would kill the process at the first write beyond the limit.
    let launcher = owned_words(&["sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh"]);
    let service = ServiceProcess::start_by(launcher, dir, &url).await;
    let load = Load::start(&service);
    for _ in 0..rounds() {
        load.until_accepted(50).await;
        limit_files(&service, "4096:unlimited");
        load.until_503(20).await;
        assert_read_is_answered(&service).await;
        service.until_not_ready().await;
        limit_files(&service, "unlimited:unlimited");
        load.until_accepted(50).await;
        service.until_ready().await;
    }
    let (ledger, stats) = load.finish().await;
    stats.assert_no_connection_broke();
    ledger.assert_matches(&url).await;
}

fn rounds() -> usize {
    if env::var_os("BILLHOOK_SOAK").is_some() { 10 } else { 2 }
}

/// A read needs no disk space, but opening a new connection for it may, so that 503 is also
/// correct.
async fn assert_read_is_answered(service: &ServiceProcess) {
    let (status, body) = service.get_subscription(TENANT).await;
    match status {
        200 => assert_eq!(body["plan"], "free", "{body}"),
        _ => assert_eq!((status, &body["code"]), (503, &json!("unavailable")), "{body}"),
    }
}

/// Copies the database, because SQLite resolves the path under `/proc/<pid>/root` to a directory
/// outside the mount.
fn copy_database(disk: &Path) -> TempDir {
    let dir = TempDir::new().expect("a directory");
    for name in ["billhook.db", "billhook.db-wal"] {
        fs::copy(disk.join(name), dir.path().join(name)).expect("the file is copied");
    }
    dir
}

/// A launcher that mounts a tmpfs in a mount namespace of its own. None if neither root nor a user
/// namespace is permitted.
fn launcher_with_tmpfs(disk: &Path) -> Option<Vec<String>> {
    let mount = format!("mount -t tmpfs -o {TMPFS_OPTIONS} tmpfs '{}' && exec \"$@\"", disk.display());
    let options = ["--mount", "--user --map-root-user --mount"];
    let launchers = options.map(|options| {
        let unshare = std::iter::once("unshare").chain(options.split(' '));
        owned_words(&unshare.chain(["sh", "-c", &mount, "sh"]).collect::<Vec<_>>())
    });
    launchers.into_iter().find(|launcher| is_permitted(launcher))
}

fn is_permitted(launcher: &[String]) -> bool {
    let output = Command::new(&launcher[0]).args(&launcher[1..]).arg("true").output();
    output.is_ok_and(|output| output.status.success())
}

pub fn owned_words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

/// The path in the service's mount namespace.
fn path_in_service(service: &ServiceProcess, path: &Path) -> PathBuf {
    Path::new("/proc")
        .join(service.id().to_string())
        .join("root")
        .join(path.strip_prefix("/").expect("absolute"))
}

pub fn sqlite_url(dir: &Path) -> String {
    format!("sqlite://{}/billhook.db", dir.display())
}

/// Writes until the disk is full.
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

fn limit_files(service: &ServiceProcess, limit: &str) {
    let status = Command::new("prlimit")
        .args(["--pid", &service.id().to_string(), &format!("--fsize={limit}")])
        .stdin(Stdio::null())
        .status();
    assert!(status.expect("prlimit runs").success());
}
