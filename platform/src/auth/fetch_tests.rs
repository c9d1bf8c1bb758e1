//! `test_tls` holds an authority of ours whose key nobody has any more, and what it has signed: a server on 127.0.0.1.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

use super::*;

const AUTHORITY: &[u8] = include_bytes!("test_tls/ca.pem");
const CERTIFICATE: &[u8] = include_bytes!("test_tls/server.pem");
const KEY: &[u8] = include_bytes!("test_tls/server.key");

fn our_authority() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(AUTHORITY).expect("a certificate")).expect("an authority");
    roots
}

/// Answers every request over TLS with `answer`, as it is. The port.
async fn serve(answer: &'static str) -> u16 {
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(KEY).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().expect("versions").with_no_client_auth();
    let acceptor = TlsAcceptor::from(Arc::new(config.with_single_cert(vec![certificate], key).expect("a pair")));
    let listener = TcpListener::bind("0.0.0.0:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // whoever does not trust us hangs up
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.expect("a head"));
            }
            let head = String::from_utf8(head).expect("text");
            assert!(head.starts_with("GET /keys?v=2 HTTP/1.1\r\n") && head.contains("host: 127.0.0.1:"), "{head}");
            stream.write_all(answer.as_bytes()).await.expect("an answer");
            stream.shutdown().await.expect("an end");
        }
    });
    port
}

async fn get(port: u16, roots: fn() -> RootCertStore) -> Result<String, String> {
    let address = Address::trusting(&format!("https://127.0.0.1:{port}/keys?v=2"), roots)?;
    address.get(10).await.map(|body| String::from_utf8(body).expect("text"))
}

#[tokio::test]
async fn over_tls_an_answer_is_taken_from_whom_a_trusted_authority_has_signed() {
    let port = serve("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
    assert_eq!(get(port, our_authority).await.as_deref(), Ok("{}"));
    let other_name = Address::trusting(&format!("https://127.0.0.2:{port}/keys?v=2"), our_authority).expect("a URL");
    let refused = other_name.get(10).await.expect_err("a certificate is its holder's");
    assert!(refused.starts_with("TLS: "), "{refused}");
}

#[tokio::test]
async fn whom_nobody_has_signed_is_not_listened_to() {
    let port = serve("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
    let strangers = || {
        let mut roots = RootCertStore::empty();
        // signed, and no authority of ours
        roots.add(CertificateDer::from_pem_slice(CERTIFICATE).expect("a certificate")).expect("a certificate");
        roots
    };
    let refused = get(port, strangers).await.expect_err("refused");
    assert!(refused.starts_with("TLS: "), "{refused}");
}

#[tokio::test]
async fn an_answer_that_is_none_says_why() {
    let elsewhere = serve("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1/\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(get(elsewhere, our_authority).await, Err("answer 302 Found".to_owned()));
    let long = serve("HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\nhello world").await;
    let refused = get(long, our_authority).await.expect_err("refused");
    assert!(refused.contains("10 bytes at most"), "{refused}");
}

#[test]
fn what_is_no_url_and_whom_nobody_trusts_is_said_at_the_start() {
    for wrong in ["keys.json", "ftp://id.example.com/keys", "http://", "https:///keys", "http://a b/"] {
        assert!(Address::trusting(wrong, our_authority).err().is_some_and(|why| why.contains("no URL")), "{wrong}");
    }
    let nobody = Address::trusting("https://id.example.com/keys", RootCertStore::empty).err();
    assert!(nobody.is_some_and(|why| why.contains("SSL_CERT_FILE")));
}
