//! Where data and caches lie on this machine when nobody says otherwise.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The folder of real datasets: `given` (`--data-dir`), else `KSHOT_DATA`, else `kshot` in the platform's folder for a
/// user's data (`$XDG_DATA_HOME` or `~/.local/share`, `~/Library/Application Support`, `%LOCALAPPDATA%`), which need
/// not exist. `None` where even that is unknown.
pub fn data_dir(given: Option<&Path>) -> Option<PathBuf> {
    given
        .map(Path::to_owned)
        .or_else(|| data_dir_from(|name| std::env::var_os(name)))
}

/// The folder of caches: `KSHOT_CACHE` (set but empty: none), else `kshot` in the platform's folder for caches
/// (`$XDG_CACHE_HOME` or `~/.cache`, `~/Library/Caches`, `%LOCALAPPDATA%`), which need not exist.
pub fn cache_dir() -> Option<PathBuf> {
    cache_dir_from(|name| std::env::var_os(name))
}

fn data_dir_from(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    if let Some(folder) = variable("KSHOT_DATA").filter(|value| !value.is_empty()) {
        return Some(folder.into());
    }
    platform(
        &variable,
        "XDG_DATA_HOME",
        ".local/share",
        "Library/Application Support",
        "data",
    )
}

fn cache_dir_from(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    match variable("KSHOT_CACHE") {
        Some(folder) => (!folder.is_empty()).then(|| folder.into()),
        None => platform(&variable, "XDG_CACHE_HOME", ".cache", "Library/Caches", "cache"),
    }
}

/// `kshot` in the folder that a variable names on free desktops, else in one under the home folder.
fn platform(
    variable: impl Fn(&str) -> Option<OsString>,
    xdg: &str,
    unix: &str,
    macos: &str,
    windows: &str,
) -> Option<PathBuf> {
    let folder = |name: &str| {
        variable(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    if cfg!(windows) {
        return Some(folder("LOCALAPPDATA")?.join("kshot").join(windows));
    }
    let under_home = if cfg!(target_os = "macos") { macos } else { unix };
    // A relative path there is void, says the specification of these variables.
    let base = folder(xdg).filter(|base| base.is_absolute());
    Some(
        base.or_else(|| Some(folder("HOME")?.join(under_home)))?
            .join("kshot"),
    )
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn with(pairs: &'static [(&str, &str)]) -> impl Fn(&str) -> Option<OsString> {
        |wanted| {
            pairs
                .iter()
                .find(|(name, _)| *name == wanted)
                .map(|(_, value)| value.into())
        }
    }

    #[test]
    fn our_own_variable_goes_before_the_platforms() {
        let all = &[
            ("KSHOT_CACHE", "c"),
            ("KSHOT_DATA", "d"),
            ("XDG_CACHE_HOME", "/x"),
            ("HOME", "/h"),
        ];
        assert_eq!(cache_dir_from(with(all)), Some("c".into()));
        assert_eq!(data_dir_from(with(all)), Some("d".into()));
        let xdg = &[
            ("XDG_CACHE_HOME", "/x"),
            ("XDG_DATA_HOME", "relative"),
            ("HOME", "/h"),
        ];
        assert_eq!(cache_dir_from(with(xdg)), Some("/x/kshot".into()));
        assert_eq!(data_dir_from(with(xdg)), Some("/h/.local/share/kshot".into()));
        assert_eq!(
            cache_dir_from(with(&[("HOME", "/h")])),
            Some("/h/.cache/kshot".into())
        );
    }

    #[test]
    fn an_empty_cache_variable_and_a_homeless_user_have_no_cache() {
        assert_eq!(cache_dir_from(with(&[("KSHOT_CACHE", ""), ("HOME", "/h")])), None);
        assert_eq!(cache_dir_from(with(&[])), None);
        assert_eq!(data_dir_from(with(&[("KSHOT_DATA", "")])), None);
    }
}
