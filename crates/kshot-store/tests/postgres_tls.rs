//! Encrypted connections to PostgreSQL: with whom, and who is refused.
#![cfg(all(unix, feature = "postgres"))]

mod common;

use std::path::Path;

use common::postgres::{Server, write_private};
use common::{new_example, stored_model};
use kshot_store::{open, open_or_create};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// A certificate that signs others.
fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A server with a certificate for `localhost`, signed by `authority` or by itself.
fn server(authority: Option<&CertifiedIssuer<'static, KeyPair>>) -> Option<(Server, String)> {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = match authority {
        Some(authority) => params.signed_by(&key, authority),
        None => params.self_signed(&key),
    };
    let certificate = certificate.unwrap().pem();
    let server = Server::start_with(&["ssl=on"], |data| {
        write_private(&data.join("server.crt"), &certificate);
        write_private(&data.join("server.key"), &key.serialize_pem());
    })?;
    Some((server, certificate))
}

/// Connections of ours that are encrypted, and that are not.
fn connections(address: &str) -> (i64, i64) {
    let row = postgres::Client::connect(address, postgres::NoTls)
        .unwrap()
        .query_one(
            "SELECT count(*) FILTER (WHERE ssl), count(*) FILTER (WHERE NOT ssl)
             FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'kshot'",
            &[],
        )
        .unwrap();
    (row.get(0), row.get(1))
}

fn with(address: &str, host: &str, mode: &str, roots: Option<&Path>) -> String {
    let roots = roots.map_or_else(String::new, |path| format!("&sslrootcert={}", path.display()));
    format!("{}?sslmode={mode}{roots}", address.replace("127.0.0.1", host))
}

#[test]
fn a_server_is_trusted_by_its_certificate_and_no_other_is() {
    let ours = authority("ours");
    let Some((server, _)) = server(Some(&ours)) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let [good, foreign, empty] =
        ["good.pem", "foreign.pem", "empty.pem"].map(|name| folder.path().join(name));
    std::fs::write(&good, ours.as_ref().pem()).unwrap();
    std::fs::write(&foreign, authority("foreign").as_ref().pem()).unwrap();
    std::fs::write(&empty, "no certificate").unwrap();
    let address = server.database();

    let store = open_or_create(&with(&address, "localhost", "verify-full", Some(&good))).unwrap();
    store.set_model(&stored_model("m"), &[]).unwrap();
    store.add("m", "a", &[new_example(1)]).unwrap();
    assert_eq!(connections(&address), (1, 0));
    drop(store);

    for (host, mode, roots) in [
        ("127.0.0.1", "prefer", None),
        ("127.0.0.1", "require", None),
        ("127.0.0.1", "require", Some(&good)),
        ("127.0.0.1", "verify-ca", Some(&good)),
        ("localhost", "verify-ca", Some(&good)),
    ] {
        let store = open(&with(&address, host, mode, roots.map(|path| path.as_path()))).unwrap();
        let mut watcher = store.watcher();
        watcher.wait(std::time::Duration::from_secs(1));
        assert_eq!(store.usage().unwrap().examples, 1);
        assert_eq!(connections(&address), (2, 0), "{host} {mode}");
    }
    for (host, mode, roots, said) in [
        ("127.0.0.1", "verify-full", Some(&good), "not valid for name"),
        ("localhost", "verify-full", Some(&foreign), "UnknownIssuer"),
        ("localhost", "verify-ca", Some(&foreign), "UnknownIssuer"),
        ("localhost", "require", Some(&foreign), "UnknownIssuer"),
        ("localhost", "verify-full", Some(&empty), "no certificate in it"),
    ] {
        let error = open(&with(&address, host, mode, roots.map(|path| path.as_path())));
        let error = error.err().unwrap().to_string();
        assert!(
            error.contains(said) && error.contains("sslrootcert"),
            "{host} {mode}: {error}"
        );
    }
    // The operating system knows nobody who signed it, or has no certificates at all.
    let error = open(&with(&address, "localhost", "verify-full", None))
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("sslrootcert"), "{error}");

    let plain = open(&with(&address, "127.0.0.1", "disable", None)).unwrap();
    assert_eq!(plain.usage().unwrap().examples, 1);
    assert_eq!(connections(&address), (0, 1));
}

#[test]
fn a_certificate_that_signs_itself_is_trusted_where_it_is_named() {
    let Some((server, certificate)) = server(None) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("server.pem");
    std::fs::write(&file, certificate).unwrap();
    let address = server.database();
    drop(open_or_create(&with(&address, "localhost", "verify-full", Some(&file))).unwrap());
    let error = open(&with(&address, "127.0.0.1", "verify-full", Some(&file)))
        .err()
        .unwrap();
    assert!(error.to_string().contains("not valid for name"), "{error}");
}

#[test]
fn a_server_without_encryption_is_refused_where_it_is_required() {
    let Some(server) = Server::shared() else { return };
    let address = server.database();
    let error = open_or_create(&with(&address, "127.0.0.1", "require", None))
        .err()
        .unwrap();
    let error = error.to_string();
    assert!(
        error.contains("no encrypted connection can be made (server does not support TLS)"),
        "{error}"
    );
    drop(open_or_create(&with(&address, "127.0.0.1", "prefer", None)).unwrap());
}
