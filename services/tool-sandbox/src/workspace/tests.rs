//! Attacks on the containment.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tutti_error::Reason;

use super::{Content, MAX_READ, Workspace};
use crate::domain::Failure;

const SECRET: &str = "the secret";

/// A workspace `in` beside a folder `out` with a secret.
struct Place {
    dir: TempDir,
    workspace: Workspace,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("in")).unwrap();
        fs::create_dir(dir.path().join("out")).unwrap();
        fs::write(dir.path().join("out/secret"), SECRET).unwrap();
        let workspace = Workspace::open("w", &dir.path().join("in"), false).unwrap();
        Self { dir, workspace }
    }

    fn inside(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join("in").join(name)
    }

    fn out(&self) -> std::path::PathBuf {
        self.dir.path().join("out")
    }

    fn write(&self, path: &str, content: &str) -> Result<(), Failure> {
        self.workspace.write(path, content.as_bytes(), &CancellationToken::new())
    }

    fn outside_is_untouched(&self) {
        let names: Vec<_> = fs::read_dir(self.out()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["secret"]);
        assert_eq!(fs::read_to_string(self.out().join("secret")).unwrap(), SECRET);
    }
}

fn reason<T: std::fmt::Debug>(result: Result<T, Failure>) -> Reason {
    result.unwrap_err().reason
}

#[test]
fn no_path_leads_out() {
    let place = Place::new();
    symlink("../out", place.inside("up")).unwrap();
    symlink(place.out(), place.inside("absolute")).unwrap();
    symlink("../out/secret", place.inside("secret")).unwrap();
    fs::create_dir(place.inside("sub")).unwrap();
    let absolute = place.out().join("secret").display().to_string();
    let paths = [
        "../out/secret",
        "sub/../../out/secret",
        "missing/../../out/secret",
        &absolute,
        "/etc/passwd",
        "/proc/self/environ",
        "up/secret",
        "absolute/secret",
        "secret",
        "sub/../up/secret",
    ];
    for path in paths {
        assert_eq!(reason(place.workspace.read(path)), Reason::PathOutsideWorkspace, "read {path}");
        assert_eq!(reason(place.write(path, "x")), Reason::PathOutsideWorkspace, "write {path}");
        assert!(place.workspace.append(path, b"x").is_err(), "append {path}");
    }
    for path in ["..", "/", "up", "absolute", "sub/../.."] {
        let listed = place.workspace.list(path, true, true, &CancellationToken::new());
        assert_eq!(reason(listed), Reason::PathOutsideWorkspace, "list {path}");
        assert_eq!(reason(place.workspace.folder(path)), Reason::PathOutsideWorkspace, "folder {path}");
    }
    place.outside_is_untouched();
}

#[test]
fn links_that_stay_inside_may_be_read_but_not_written_through() {
    let place = Place::new();
    fs::create_dir(place.inside("sub")).unwrap();
    fs::write(place.inside("a"), "content").unwrap();
    symlink("../a", place.inside("sub/link")).unwrap();
    assert_eq!(place.workspace.read("sub/link").unwrap().bytes, b"content");
    assert_eq!(reason(place.write("sub/link", "x")), Reason::ToolFailed);
    assert!(place.workspace.append("sub/link", b"x").is_err());
    assert_eq!(fs::read_to_string(place.inside("a")).unwrap(), "content");
}

#[test]
fn only_regular_files_are_read_and_nothing_waits() {
    let place = Place::new();
    nix::unistd::mkfifo(&place.inside("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::create_dir(place.inside("folder")).unwrap();
    for path in ["pipe", "folder", ".", "missing", "nul\0"] {
        assert_eq!(reason(place.workspace.read(path)), Reason::ToolFailed, "{path:?}");
    }
    assert_eq!(reason(place.workspace.append("pipe", b"x")), Reason::ToolFailed);
    for path in ["folder", ".", "new/", "nul\0"] {
        assert_eq!(reason(place.write(path, "x")), Reason::ToolFailed, "{path:?}");
    }
}

#[test]
fn a_hard_link_is_not_appended_to_and_a_write_leaves_the_other_name_alone() {
    let place = Place::new();
    fs::hard_link(place.out().join("secret"), place.inside("a")).unwrap();
    assert_eq!(reason(place.workspace.append("a", b"x")), Reason::ToolFailed);
    place.write("a", "mine").unwrap();
    assert_eq!(fs::read_to_string(place.inside("a")).unwrap(), "mine");
    place.outside_is_untouched();
}

#[test]
fn writes_make_folders_keep_modes_and_leave_nothing_else_behind() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    place.write("a/b/c", "one").unwrap();
    fs::set_permissions(place.inside("a/b/c"), fs::Permissions::from_mode(0o750)).unwrap();
    place.write("a/b/c", "two").unwrap();
    place.workspace.append("a/b/c", b" three").unwrap();
    assert_eq!(fs::read_to_string(place.inside("a/b/c")).unwrap(), "two three");
    assert_eq!(fs::metadata(place.inside("a/b/c")).unwrap().permissions().mode() & 0o777, 0o750);
    assert_eq!(fs::read_dir(place.inside("a/b")).unwrap().count(), 1);
    let cancelled = CancellationToken::new();
    cancelled.cancel();
    assert_eq!(reason(place.workspace.write("a/b/c", b"late", &cancelled)), Reason::Cancelled);
    assert_eq!(fs::read_to_string(place.inside("a/b/c")).unwrap(), "two three");
    assert_eq!(fs::read_dir(place.inside("a/b")).unwrap().count(), 1);
}

#[test]
fn large_files_are_cut() {
    let place = Place::new();
    let size = MAX_READ + 10;
    fs::write(place.inside("big"), vec![b'x'; usize::try_from(size).unwrap()]).unwrap();
    fs::write(place.inside("full"), vec![b'x'; usize::try_from(MAX_READ).unwrap()]).unwrap();
    let Content { bytes, size: seen, truncated } = place.workspace.read("big").unwrap();
    assert_eq!((bytes.len() as u64, seen, truncated), (MAX_READ, size, true));
    assert!(!place.workspace.read("full").unwrap().truncated);
}

#[test]
fn lists_have_marks_and_bounds() {
    let place = Place::new();
    fs::create_dir_all(place.inside("b/deep")).unwrap();
    fs::write(place.inside("b/file"), "").unwrap();
    fs::write(place.inside(".hidden"), "").unwrap();
    symlink("../out", place.inside("link")).unwrap();
    nix::unistd::mkfifo(&place.inside("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let list = |recursive, hidden| {
        let listing = place.workspace.list("", recursive, hidden, &CancellationToken::new()).unwrap();
        (listing.entries.join(" "), listing.truncated)
    };
    assert_eq!(list(false, false), ("b/ link@ pipe|".into(), false));
    assert_eq!(list(false, true), (".hidden b/ link@ pipe|".into(), false));
    assert_eq!(list(true, false), ("b/ link@ pipe| b/deep/ b/file".into(), false));
    for index in 0..300 {
        fs::write(place.inside("b").join(format!("f{index:03}")), "").unwrap();
    }
    let (entries, truncated) = list(true, false);
    assert_eq!((entries.split(' ').count(), truncated), (200, true));
}

/// Exchanges a folder with a link out, over and over, until told to stop.
fn exchange(folder: &Path, link: &Path, done: &AtomicBool) -> u64 {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    let mut times = 0;
    while !done.load(Ordering::Relaxed) {
        renameat2(AT_FDCWD, folder, AT_FDCWD, link, RenameFlags::RENAME_EXCHANGE).unwrap();
        times += 1;
        // Long enough for the other side to get in between sometimes, short enough to meet it in the middle often.
        for _ in 0..1000 {
            std::hint::spin_loop();
        }
    }
    times
}

#[test]
fn a_link_exchanged_at_the_worst_moment_leads_nowhere() {
    let place = Place::new();
    fs::create_dir(place.inside("d")).unwrap();
    fs::write(place.inside("d/secret"), "harmless").unwrap();
    fs::write(place.inside("d/inner"), "").unwrap();
    symlink(place.out(), place.inside("l")).unwrap();
    let done = AtomicBool::new(false);
    let (mut read, mut written, mut listed, mut refused) = (0_u64, 0, 0, 0_u64);
    let exchanged = std::thread::scope(|scope| {
        let exchanging = scope.spawn(|| exchange(&place.inside("d"), &place.inside("l"), &done));
        let end = Instant::now() + Duration::from_secs(60);
        for index in 0.. {
            // Many tries, and enough of them on either side of the exchange.
            let enough = [read, written, listed, refused].iter().all(|count| *count > 20);
            if index >= 20_000 && enough || Instant::now() > end {
                break;
            }
            match place.workspace.read("d/secret") {
                Ok(content) => {
                    assert_eq!(content.bytes, b"harmless", "read outside at try {index}");
                    read += 1;
                }
                Err(_) => refused += 1,
            }
            if let Ok(listing) = place.workspace.list("d", true, true, &CancellationToken::new()) {
                assert!(listing.entries.contains(&"inner".to_owned()), "listed outside: {listing:?}");
                listed += 1;
            }
            // Fewer: each is synced to the disk.
            if index % 20 == 0 {
                written += u64::from(place.write("d/new", "x").is_ok());
                written += u64::from(place.workspace.append("d/more", b"x").is_ok());
            }
        }
        done.store(true, Ordering::Relaxed);
        exchanging.join().unwrap()
    });
    place.outside_is_untouched();
    let counts = [exchanged, read, written, listed, refused];
    assert!(counts.iter().all(|count| *count > 20), "{counts:?}");
}
