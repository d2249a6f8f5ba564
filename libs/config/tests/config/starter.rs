//! The files of a first run.

use std::fs;

use tutti_config::write_starter_files;

use crate::support::Home;

/// A home whose global folder is what a first run makes.
fn started() -> Home {
    let home = Home::new();
    fs::remove_dir(home.path("global")).unwrap();
    let written = write_starter_files(&home.path("global")).unwrap();
    assert_eq!(written.len(), 3);
    home
}

#[test]
fn starter_files_load_without_a_word() {
    let all = started().all().unwrap();
    assert!(all.warnings.is_empty(), "{:?}", all.warnings);
    assert_eq!(all.backends.len(), 5);
}

#[test]
fn the_examples_in_them_are_valid_too() {
    let home = started();
    for name in ["config.toml", "credentials.toml", "personas.toml"] {
        let path = home.path("global").join(name);
        let text = fs::read_to_string(&path).unwrap();
        let is_example = |line: &str| line.starts_with('#') && !line.starts_with("# ") && line.len() > 1;
        let bare: Vec<&str> = text.lines().map(|line| if is_example(line) { &line[1..] } else { line }).collect();
        fs::write(&path, bare.join("\n")).unwrap();
    }
    // The office's section is named in a backend only.
    let all = home.all().unwrap();
    assert!(all.warnings.is_empty(), "{:?}", all.warnings);
    assert!(all.backends.get("office").is_some() && all.backends.get("opus").is_none());
    assert!(all.personas.get("release-writer").is_some());
    assert!(all.credentials.get("openai").is_some());
}

#[test]
fn an_existing_folder_is_left_alone() {
    let home = Home::new();
    assert!(write_starter_files(&home.path("global")).unwrap().is_empty());
    assert_eq!(fs::read_dir(home.path("global")).unwrap().count(), 0);
}

#[cfg(unix)]
#[test]
fn only_the_user_can_read_the_credentials() {
    use std::os::unix::fs::PermissionsExt as _;

    let home = started();
    let mode = |path: &str| fs::metadata(home.path(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("global/credentials.toml"), 0o600);
    assert_eq!(mode("global"), 0o700);
}
