//! Files over HTTP: of bounded length, checked against their MD5, and there as a whole or not at all.

use std::path::Path;

use super::DataError;

/// A file that its authors publish.
pub struct Published {
    /// Its name, at the end of the address and in our folder.
    pub name: &'static str,
    /// Its MD5 in hexadecimal.
    pub md5: &'static str,
    /// Most bytes that are downloaded.
    pub max_length: u64,
}

/// Downloads `file` from the folder at `base_url` and writes it to `path`; `progress` is told the bytes done and in all
/// (0 when unknown). `hint` ends the message when it fails.
///
/// # Errors
/// A connection that fails or stalls, another status than 200, and a file that is too long or has another MD5; nothing is
/// written then.
#[cfg(feature = "fetch")]
pub fn download(
    base_url: &str,
    file: &Published,
    path: &Path,
    hint: &str,
    progress: &dyn Fn(u64, u64),
) -> Result<(), DataError> {
    use std::io::{Error, Read, Write};
    use std::time::Duration;

    let url = format!("{}/{}", base_url.trim_end_matches('/'), file.name);
    let failed = |why: String| DataError::Damaged {
        path: (&url).into(),
        problem: format!("{why}; {hint}"),
    };
    let stalled = Some(Duration::from_secs(60));
    let agent = ureq::Agent::config_builder()
        .timeout_connect(stalled)
        .timeout_recv_response(stalled)
        .timeout_per_read(stalled)
        .user_agent(concat!("kshot/", env!("CARGO_PKG_VERSION")))
        .build()
        .new_agent();
    let response = agent
        .get(&url)
        .call()
        .map_err(|error| failed(format!("can't be downloaded ({error})")))?;
    let mut body = response.into_body();
    let total = body.content_length().unwrap_or(0);
    let too_long = || format!("longer than the {} MiB that it may have", file.max_length >> 20);
    if total > file.max_length {
        return Err(failed(too_long()));
    }
    // A problem of the connection is told from one of our own disk by where it is kept.
    let mut problem = None;
    let written = super::cache::write_atomically(path, |out| {
        let mut reader = body.with_config().limit(u64::MAX).reader();
        let (mut digest, mut done) = (md5::Context::new(), 0);
        let mut buffer = vec![0; 1 << 16];
        let mut broken = |why| {
            problem = Some(why);
            Error::other("the download failed")
        };
        loop {
            let n = reader
                .read(&mut buffer)
                .map_err(|error| broken(format!("the download broke off ({error})")))?;
            done += n as u64;
            match n {
                0 if total > 0 && done < total => {
                    return Err(broken(format!(
                        "the download broke off after {done} of {total} bytes"
                    )));
                }
                0 => break,
                _ if done > file.max_length => return Err(broken(too_long())),
                _ => {}
            }
            digest.consume(&buffer[..n]);
            out.write_all(&buffer[..n])?;
            progress(done, total);
        }
        match format!("{:x}", digest.finalize()) {
            found if found == file.md5 => Ok(()),
            found => Err(broken(format!(
                "its MD5 is {found}, and that of the published file {}",
                file.md5
            ))),
        }
    });
    match problem {
        Some(why) => Err(failed(why)),
        None => written,
    }
}

/// Says that this program was built without the feature `fetch`.
///
/// # Errors
/// Always.
#[cfg(not(feature = "fetch"))]
pub fn download(
    base_url: &str,
    file: &Published,
    _path: &Path,
    hint: &str,
    _progress: &dyn Fn(u64, u64),
) -> Result<(), DataError> {
    Err(DataError::Damaged {
        path: format!("{}/{}", base_url.trim_end_matches('/'), file.name).into(),
        problem: format!("this kshot was built without downloads (feature `fetch`); {hint}"),
    })
}

/// The MD5 of `bytes` in hexadecimal.
pub fn md5(bytes: &[u8]) -> String {
    format!("{:x}", md5::compute(bytes))
}
