//! Who may ask: the token, and browsers on behalf of other sites.

use std::net::IpAddr;

use axum::http::{HeaderMap, header};
use subtle::ConstantTimeEq;

use crate::config::Config;
use crate::problem::{FOREIGN, Problem, UNAUTHORIZED};

/// Decides about a request by its headers.
#[derive(Debug)]
pub struct Guard {
    token: Option<String>,
    /// Whether only names of this computer may be asked for.
    own_names_only: bool,
}

impl Guard {
    /// As `config` says.
    pub fn new(config: &Config) -> Self {
        Self {
            token: config.token.clone(),
            own_names_only: config.token.is_none() && !config.insecure_open,
        }
    }

    /// Whether a page of another site makes the browser ask. Without this, any page that the user visits could change
    /// the classes of a server on the user's own computer, by a form or under a name that it points there.
    ///
    /// # Errors
    /// 403.
    pub fn origin(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let host = text(header::HOST).unwrap_or_default();
        if self.own_names_only && !is_own_name(host) {
            return Err(Problem::new(
                &FOREIGN,
                "asked under a name that isn't localhost or an address; use one of those, or start the server with a token",
            ));
        }
        let foreign = match headers.get(header::ORIGIN) {
            Some(origin) => origin
                .to_str()
                .ok()
                .and_then(|origin| origin.split_once("://"))
                .is_none_or(|(_, authority)| !authority.eq_ignore_ascii_case(host)),
            None => headers
                .get("sec-fetch-site")
                .is_some_and(|site| site == "cross-site"),
        };
        if foreign {
            return Err(Problem::new(
                &FOREIGN,
                "a browser sent this for a page of another site; only the server's own page may",
            ));
        }
        Ok(())
    }

    /// Whether the request carries the token; the comparison takes as long wherever they differ.
    ///
    /// # Errors
    /// 401.
    pub fn token(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(token) = &self.token else { return Ok(()) };
        let given = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
        let given = given.and_then(|value| {
            let (scheme, rest) = value.split_at_checked(7)?;
            scheme.eq_ignore_ascii_case(b"bearer ").then(|| rest.trim_ascii())
        });
        match given {
            Some(given) if bool::from(given.ct_eq(token.as_bytes())) => Ok(()),
            Some(_) => Err(Problem::new(&UNAUTHORIZED, "the token is another one")),
            None => Err(Problem::new(
                &UNAUTHORIZED,
                "send the server's token as `Authorization: Bearer TOKEN`",
            )),
        }
    }
}

/// Whether a `Host` can only mean the computer that it is sent to: `localhost` or an address.
fn is_own_name(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.to_ascii_lowercase().ends_with(".localhost")
        || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (
                header::HeaderName::from_static(name),
                HeaderValue::from_str(value).unwrap(),
            )
        };
        pairs.iter().map(pair).collect()
    }

    fn guard(token: Option<&str>) -> Guard {
        Guard {
            token: token.map(str::to_owned),
            own_names_only: token.is_none(),
        }
    }

    #[test]
    fn only_names_that_cannot_be_pointed_elsewhere_are_own() {
        for host in [
            "localhost",
            "localhost:8080",
            "127.0.0.1:8080",
            "[::1]:80",
            "kshot.localhost:1",
            "10.0.0.7",
        ] {
            assert!(is_own_name(host), "{host}");
        }
        for host in [
            "",
            "example.org",
            "127.0.0.1.example.org:8080",
            "localhost.example.org",
            "[evil]:80",
            "1.2.3",
        ] {
            assert!(!is_own_name(host), "{host}");
        }
    }

    #[test]
    fn pages_of_other_sites_are_refused_and_programs_are_not() {
        let guard = guard(None);
        let host = ("host", "localhost:8080");
        assert!(guard.origin(&headers(&[host])).is_ok());
        assert!(
            guard
                .origin(&headers(&[host, ("origin", "http://localhost:8080")]))
                .is_ok()
        );
        for origin in [
            "http://example.org",
            "null",
            "http://localhost:8081",
            "localhost:8080",
        ] {
            assert!(
                guard.origin(&headers(&[host, ("origin", origin)])).is_err(),
                "{origin}"
            );
        }
        assert!(
            guard
                .origin(&headers(&[host, ("sec-fetch-site", "cross-site")]))
                .is_err()
        );
        assert!(guard.origin(&headers(&[("host", "example.org")])).is_err());
    }

    #[test]
    fn only_the_very_token_opens() {
        let guard = guard(Some("0123456789abcdef"));
        for value in ["Bearer 0123456789abcdef", "bearer  0123456789abcdef "] {
            assert!(
                guard.token(&headers(&[("authorization", value)])).is_ok(),
                "{value}"
            );
        }
        for value in [
            "Bearer 0123456789abcdeF",
            "Bearer 0123456789abcde",
            "Basic 0123456789abcdef",
            "Bearer",
            "",
        ] {
            assert!(
                guard.token(&headers(&[("authorization", value)])).is_err(),
                "{value}"
            );
        }
        assert!(guard.token(&HeaderMap::new()).is_err());
    }
}
