//! Logging in in a browser.

use crate::testing::{PASSWORD, Server};
use http::{Method, StatusCode};
use serde_json::Value;

const PAGE: &str = "/_matrix/static/client/login/";

#[tokio::test]
async fn a_browser_logs_in_and_the_client_gets_the_response() {
    let server = Server::new().await;
    server.user("alice").await;
    let form = server.get(PAGE, None).await;
    assert_eq!(form.status, StatusCode::OK);
    assert!(form.body.as_str().unwrap().contains("name=\"password\""));

    let path = format!("{PAGE}?device_id=DE%56ICE&refresh_token=true");
    let password = PASSWORD.replace(' ', "+");
    let done = server.send(Method::POST, &path, None, format!("user=alice&password={password}")).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.body);
    let page = done.body.as_str().unwrap();
    assert!(page.contains("window.matrixLogin.onLogin(response)"));
    let response = page.split_once("id=\"response\">").unwrap().1.split_once("</script>").unwrap().0;
    let response: Value = serde_json::from_str(response).unwrap();
    assert_eq!((&response["user_id"], &response["device_id"]), (&"@alice:example.org".into(), &"DEVICE".into()));
    assert!(response["refresh_token"].is_string());
    let token = response["access_token"].as_str().unwrap();
    assert_eq!(server.get("/_matrix/client/v3/account/whoami", Some(token)).await.ok()["device_id"], "DEVICE");
}

#[tokio::test]
async fn what_is_typed_wrongly_is_asked_for_again() {
    let server = Server::new().await;
    server.user("alice").await;
    for typed in ["user=alice&password=wrong", "user=%22%3E%3Cb%3E&password=x", ""] {
        let again = server.send(Method::POST, PAGE, None, typed).await;
        assert_eq!(again.status, StatusCode::FORBIDDEN, "{typed}");
        let page = again.body.as_str().unwrap();
        assert!(page.contains("class=\"error\"") && page.contains("<form") && !page.contains("<b>"), "{typed}");
    }
}
