//! The server's own TLS, and HTTP/2 with and without it.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::{Server, git_ok, noise, with_song};

/// Makes a certificate for `localhost` and its key.
fn certificate(folder: &Path) -> (PathBuf, PathBuf) {
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
        ])
        .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .output()
        .expect("openssl is installed");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    (cert, key)
}

fn curl(args: &[&str]) -> String {
    let output = Command::new("curl")
        .args(["-sS"])
        .args(args)
        .output()
        .expect("curl is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn git_clones_over_tls_and_http2() {
    let folder = tempfile::tempdir().expect("a folder");
    let (cert, key) = certificate(folder.path());
    let server = Server::with(|settings| {
        settings.server.tls_cert_file = Some(cert.clone());
        settings.server.tls_key_file = Some(key);
    });
    with_song(&server);
    let (cert, url) = (cert.to_string_lossy(), format!("https://{}/", server.address));

    let ca = format!("http.sslCAInfo={cert}");
    for version in ["HTTP/1.1", "HTTP/2"] {
        let target = version.replace('/', "-");
        let version = format!("http.version={version}");
        git_ok(
            server.work(),
            &[
                "-c",
                &ca,
                "-c",
                &version,
                "clone",
                "-q",
                &format!("{url}anna/song.git"),
                &target,
            ],
        );
    }
    // Longer than git's buffer, so that its length is not known beforehand.
    let work = server.work().join("HTTP-2");
    std::fs::write(work.join("take.wav"), noise(3 << 20)).expect("written");
    git_ok(&work, &["add", "."]);
    git_ok(&work, &["commit", "-q", "-m", "A take"]);
    for version in ["1.1", "2"] {
        let own = format!(
            "https://anna:a%20long%3A%20pass%40word@{}/anna/takes-{version}.git",
            server.address
        );
        let version = format!("http.version=HTTP/{version}");
        git_ok(
            &work,
            &["-c", &ca, "-c", &version, "push", "-q", &own, "HEAD:refs/heads/main"],
        );
    }
    let version = curl(&["--cacert", &cert, "-o", "/dev/null", "-w", "%{http_version}", &url]);
    assert_eq!(version, "2");
}

#[test]
fn a_renewed_certificate_is_used_without_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let (cert, key) = certificate(folder.path());
    let server = Server::with(|settings| {
        settings.server.tls_cert_file = Some(cert.clone());
        settings.server.tls_key_file = Some(key.clone());
    });
    let answers = |authority: &Path| {
        let url = format!("https://{}/livez", server.address);
        let output = Command::new("curl")
            .args(["-sS", "--cacert"])
            .arg(authority)
            .arg(url)
            .output()
            .expect("curl is installed");
        output.status.success()
    };
    assert!(answers(&cert));

    let renewed = tempfile::tempdir().expect("a folder");
    let (new_cert, new_key) = certificate(renewed.path());
    assert!(!answers(&new_cert));
    // The first file alone does not fit the other: the server goes on with what it has.
    let old_cert = folder.path().join("old.pem");
    std::fs::copy(&cert, &old_cert).expect("copied");
    std::fs::copy(&new_cert, &cert).expect("copied");
    assert!(answers(&old_cert));
    std::fs::copy(&new_key, &key).expect("copied");
    server.until("the new certificate is served", || answers(&new_cert));
    assert!(!answers(&old_cert));
}

#[test]
fn http2_without_tls_is_spoken_to_who_knows() {
    let server = Server::start();
    with_song(&server);
    let url = server.url("anna/song.git/info/refs?service=git-upload-pack");
    let answer = curl(&[
        "--http2-prior-knowledge",
        "-o",
        "/dev/null",
        "-w",
        "%{http_version} %{http_code}",
        &url,
    ]);
    assert_eq!(answer, "2 200");
}
