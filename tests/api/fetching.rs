use super::support::{Server, git_ok, with_song};

#[test]
fn stock_git_clones_in_every_protocol_version() {
    let server = Server::start();
    with_song(&server);
    for version in ["0", "1", "2"] {
        let target = format!("clone-{version}");
        let protocol = format!("protocol.version={version}");
        git_ok(
            server.work(),
            &["-c", &protocol, "clone", "-q", &server.url("anna/song.git"), &target],
        );
        let text = std::fs::read_to_string(server.work().join(target).join("song.txt"));
        assert_eq!(text.expect("cloned"), "la la la");
    }
}

#[test]
fn answers_carry_exactly_the_headers_that_git_sends_in_its_order() {
    let server = Server::start();
    with_song(&server);

    let answer = server.get("/anna/song.git/info/refs?service=git-upload-pack");

    let names: Vec<&str> = answer.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "expires",
            "pragma",
            "cache-control",
            "content-type",
            "connection",
            "transfer-encoding",
            "date"
        ]
    );
    assert_eq!(
        answer.header("content-type"),
        Some("application/x-git-upload-pack-advertisement")
    );
    assert!(answer.text().starts_with("001e# service=git-upload-pack\n0000"));
}
