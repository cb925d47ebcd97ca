//! TLS with a certificate authority of its own, made at start.

use std::io;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// Makes a CA and a certificate for these DNS names and IP addresses. Returns the acceptor and the CA as PEM.
pub(crate) fn acceptor(names: &[String]) -> io::Result<(TlsAcceptor, String)> {
    let (config, ca) = server_config(names).map_err(io::Error::other)?;
    Ok((TlsAcceptor::from(Arc::new(config)), ca))
}

fn server_config(names: &[String]) -> Result<(ServerConfig, String), Box<dyn std::error::Error + Send + Sync>> {
    let mut ca = CertificateParams::default();
    ca.distinguished_name.push(DnType::CommonName, "spanner-sim CA");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate()?)?;

    let key = KeyPair::generate()?;
    let mut leaf = CertificateParams::new(names.to_vec())?;
    leaf.distinguished_name.push(DnType::CommonName, names.first().map_or("spanner-sim", String::as_str));
    leaf.use_authority_key_identifier_extension = true;
    let leaf = leaf.signed_by(&key, &ca)?;

    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok((config, ca.pem()))
}
