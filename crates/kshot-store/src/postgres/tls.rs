//! Encrypted connections: whose certificate is good enough.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Longest file of certificates that is read, in bytes.
const MAX_FILE: u64 = 16 << 20;

/// Which servers are trusted. The file has certificates in PEM; without one those of the operating system count.
#[derive(Clone, Debug, PartialEq)]
pub enum Trust {
    /// Whoever answers: nobody can listen, but another one may answer in the server's place.
    Anyone,
    /// Whose certificate is signed by a trusted one, or is one.
    Signed(Option<PathBuf>),
    /// As before, where the certificate is for the host of the address.
    Host(Option<PathBuf>),
}

/// What makes connections encrypted; `direct` without asking the server first.
///
/// # Errors
/// Certificates that can't be read.
pub fn connector(trust: &Trust, direct: bool) -> Result<MakeRustlsConnect, String> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Verifier {
        algorithms: provider.signature_verification_algorithms,
        trusted: match trust {
            Trust::Anyone => None,
            Trust::Signed(file) => Some(Trusted::of(file.as_deref(), false, &provider)?),
            Trust::Host(file) => Some(Trusted::of(file.as_deref(), true, &provider)?),
        },
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    if direct {
        config.alpn_protocols = vec![b"postgresql".to_vec()];
    }
    Ok(MakeRustlsConnect::new(config))
}

/// Certificates that are trusted.
#[derive(Debug)]
struct Trusted {
    signed: Arc<WebPkiServerVerifier>,
    /// A server may show one of these itself, as one that signs itself does.
    known: Vec<CertificateDer<'static>>,
    for_host: bool,
}

impl Trusted {
    fn of(file: Option<&Path>, for_host: bool, provider: &Arc<CryptoProvider>) -> Result<Self, String> {
        let known = match file {
            Some(file) => {
                read(file).map_err(|problem| format!("sslrootcert {}: {problem}", file.display()))?
            }
            None => rustls_native_certs::load_native_certs().certs,
        };
        let mut roots = RootCertStore::empty();
        // What the library can't use is left out; of the operating system's, some always are.
        let (usable, _) = roots.add_parsable_certificates(known.iter().cloned());
        if usable == 0 {
            return Err(match file {
                Some(file) => format!("sslrootcert {}: no certificate in it can be used", file.display()),
                None => {
                    "the operating system has no trusted certificates; name a file by sslrootcert".to_owned()
                }
            });
        }
        let signed = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self {
            signed,
            known: if file.is_some() { known } else { Vec::new() },
            for_host,
        })
    }
}

fn read(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let length = std::fs::metadata(file).map_err(|error| error.to_string())?.len();
    if length > MAX_FILE {
        return Err(format!(
            "{length} bytes, and a file of certificates has at most {MAX_FILE}"
        ));
    }
    let certificates = CertificateDer::pem_file_iter(file).map_err(|error| error.to_string())?;
    certificates
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("not certificates in PEM ({error})"))
}

#[derive(Debug)]
struct Verifier {
    algorithms: WebPkiSupportedAlgorithms,
    /// `None` trusts anyone.
    trusted: Option<Trusted>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(trusted) = &self.trusted else {
            return Ok(ServerCertVerified::assertion());
        };
        if trusted
            .known
            .iter()
            .any(|known| known.as_ref() == certificate.as_ref())
        {
            if trusted.for_host {
                verify_server_name(&ParsedCertificate::try_from(certificate)?, host)?;
            }
            return Ok(ServerCertVerified::assertion());
        }
        match trusted
            .signed
            .verify_server_cert(certificate, intermediates, host, ocsp, now)
        {
            // The name is looked at last: everything else is right then.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !trusted.for_host => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
