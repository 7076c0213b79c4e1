//! The certificates of the listeners.

use crate::config::Tls;
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::PathBuf;
use std::sync::Arc;

/// Why a certificate can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read, or holds something else.
    #[error("{file} can't be used: {why}", file = file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// Why.
        why: rustls_pki_types::pem::Error,
    },
    /// The files don't belong together.
    #[error("the certificate {file} can't be used: {why}", file = file.display())]
    Certificate {
        /// The file of the certificate.
        file: PathBuf,
        /// Why.
        why: rustls::Error,
    },
}

/// The certificate of a listener, which can be read again while connections live on.
#[derive(Debug)]
pub(crate) struct Certificates {
    files: Tls,
    current: ArcSwap<ServerConfig>,
}

impl Certificates {
    pub(crate) fn load(files: &Tls) -> Result<Self, TlsError> {
        Ok(Self { files: files.clone(), current: ArcSwap::from_pointee(read(files)?) })
    }

    /// Reads the files again, for the connections that come. On an error the old certificate stays.
    pub(crate) fn reload(&self) -> Result<(), TlsError> {
        self.current.store(Arc::new(read(&self.files)?));
        Ok(())
    }

    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }
}

/// Reads and checks the files.
fn read(files: &Tls) -> Result<ServerConfig, TlsError> {
    let wrong = |file: &PathBuf| {
        let file = file.clone();
        move |why| TlsError::File { file, why }
    };
    let mut chain = Vec::new();
    for certificate in CertificateDer::pem_file_iter(&files.certificate).map_err(wrong(&files.certificate))? {
        chain.push(certificate.map_err(wrong(&files.certificate))?);
    }
    if chain.is_empty() {
        return Err(wrong(&files.certificate)(rustls_pki_types::pem::Error::NoItemsFound));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(wrong(&files.key))?;
    let unusable = |why| TlsError::Certificate { file: files.certificate.clone(), why };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(unusable)?.with_no_client_auth().with_single_cert(chain, key);
    let mut config = config.map_err(unusable)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Checks that the files can be used.
pub(crate) fn check(files: &Tls) -> Result<(), TlsError> {
    read(files).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn write(folder: &Path, name: &str) -> Tls {
        let made = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
        let files = Tls { certificate: folder.join(format!("{name}.pem")), key: folder.join(format!("{name}.key")) };
        std::fs::write(&files.certificate, made.cert.pem()).unwrap();
        std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        files
    }

    #[test]
    fn a_certificate_and_its_key_are_read() {
        let folder = tempfile::tempdir().unwrap();
        assert!(check(&write(folder.path(), "a")).is_ok());
    }

    #[test]
    fn another_certificates_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (write(folder.path(), "a"), write(folder.path(), "b"));
        let error = check(&Tls { certificate: a.certificate, key: b.key }).unwrap_err();
        assert!(error.to_string().contains("a.pem"), "{error}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let files = Tls { certificate: "/nowhere/a.pem".into(), key: "/nowhere/a.key".into() };
        assert!(check(&files).unwrap_err().to_string().starts_with("/nowhere/a.pem can't be used"));
    }

    #[test]
    fn a_broken_certificate_does_not_replace_a_good_one() {
        let folder = tempfile::tempdir().unwrap();
        let files = write(folder.path(), "a");
        let certificates = Certificates::load(&files).unwrap();
        let before = certificates.current();
        std::fs::write(&files.certificate, "nonsense").unwrap();
        assert!(certificates.reload().is_err());
        assert!(Arc::ptr_eq(&before, &certificates.current()));
        write(folder.path(), "a");
        certificates.reload().unwrap();
        assert!(!Arc::ptr_eq(&before, &certificates.current()));
    }
}
