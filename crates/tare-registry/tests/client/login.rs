//! Logging in: what is shown to whom, and what is worth keeping.

use crate::fixture::{BASIC, anonymous, error, text};
use crate::server::{Response, Server};
use tare_registry::{Credential, Error};
use tare_spec::ErrorKind;

fn password() -> Credential {
    Credential::Password { username: "user".to_owned(), password: "secret".to_owned() }
}

#[test]
fn a_password_is_shown_to_the_registry() {
    let server = Server::start(|request| match request.header("authorization") {
        Some(BASIC) => Response::new(200, "{}"),
        _ => error(401, "UNAUTHORIZED", "authentication required").header("www-authenticate", "Basic realm=\"r\""),
    });
    let host = server.address.to_string();
    let login = anonymous().login(&host, "user", "secret").unwrap();
    assert_eq!((login.credential, login.secure), (password(), true));
    let refused = anonymous().login(&host, "user", "wrong").unwrap_err();
    let expected = format!("Get \"{}\": unauthorized: authentication required", server.url("/v2/"));
    assert_eq!((text(&refused), refused.kind()), (expected, ErrorKind::Unauthorized));
}

#[test]
fn a_token_server_may_give_an_identity_token() {
    for (answer, kept) in [
        (r#"{"token":"good"}"#, password()),
        (r#"{"token":"good","refresh_token":null}"#, password()),
        (r#"{"access_token":"good","refresh_token":"identity"}"#, Credential::IdentityToken("identity".to_owned())),
    ] {
        let auth = Server::start(move |request| match request.header("authorization") {
            Some(BASIC) => Response::new(200, answer),
            _ => Response::new(401, r#"{"details":"incorrect username or password"}"#),
        });
        let challenge = format!("Bearer realm=\"{}\",service=\"s\"", auth.url("/token"));
        let server = Server::start(move |request| match request.header("authorization") {
            Some("Bearer good") => Response::new(200, "{}"),
            _ => Response::new(401, "").header("www-authenticate", &challenge),
        });
        let host = server.address.to_string();
        assert_eq!(anonymous().login(&host, "user", "secret").unwrap().credential, kept);
        let path = "/token?service=s&account=user&client_id=tare&offline_token=true";
        assert_eq!(auth.requests()[0].path, path);
        let refused = anonymous().login(&host, "user", "wrong").unwrap_err();
        assert!(text(&refused).ends_with("incorrect username or password"), "{}", text(&refused));
    }
}

#[test]
fn a_registry_for_everybody_and_one_that_is_none() {
    let open = Server::start(|_| Response::new(200, "{}"));
    assert_eq!(anonymous().login(&open.address.to_string(), "user", "secret").unwrap().credential, password());
    assert!(open.requests().iter().all(|request| request.header("authorization").is_none()));
    anonymous().ping(&open.address.to_string()).unwrap();
    let broken = Server::start(|_| Response::new(503, ""));
    let error = anonymous().ping(&broken.address.to_string()).unwrap_err();
    assert!(matches!(error, Error::Status { status: 503, .. }), "{error}");
}
