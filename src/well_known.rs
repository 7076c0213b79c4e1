//! `/.well-known/matrix/{client,server,support}` of an agency, from its configuration.

use crate::body::{self, Body};
use crate::config::Agency;
use bytes::Bytes;
use http::{Method, Response, StatusCode};
use serde_json::{Map, Value, json};

/// The documents, written once.
#[derive(Clone, Debug)]
pub(crate) struct WellKnown {
    client: Bytes,
    server: Option<Bytes>,
    support: Option<Bytes>,
}

impl WellKnown {
    pub(crate) fn new(agency: &Agency) -> Self {
        let text = |value: &Value| Bytes::from(value.to_string());
        let mut client = json!({ "m.homeserver": { "base_url": agency.public_base_url } });
        let transports = agency.clients.calls.rtc_transports();
        if !transports.is_empty()
            && let Some(client) = client.as_object_mut()
        {
            // Where clients that don't ask the server look for it (MSC4143).
            client.insert("org.matrix.msc4143.rtc_foci".to_owned(), transports.into());
        }
        let server = agency.well_known.server.as_ref().map(|server| text(&json!({ "m.server": server })));
        Self { client: text(&client), server, support: support(agency).map(|support| text(&support)) }
    }
}

/// Contacts and support page (client-server API, GET /.well-known/matrix/support); one of them at least.
fn support(agency: &Agency) -> Option<Value> {
    let mut support = Map::new();
    let contacts = agency.well_known.contacts.iter().map(|contact| {
        let mut value = Map::from_iter([("role".to_owned(), json!(contact.role))]);
        value.extend(contact.matrix_id.iter().map(|id| ("matrix_id".to_owned(), json!(id))));
        value.extend(contact.email_address.iter().map(|address| ("email_address".to_owned(), json!(address))));
        Value::Object(value)
    });
    let contacts: Vec<Value> = contacts.collect();
    if !contacts.is_empty() {
        support.insert("contacts".to_owned(), Value::Array(contacts));
    }
    support.extend(agency.well_known.support_page.iter().map(|page| ("support_page".to_owned(), json!(page))));
    (!support.is_empty()).then_some(Value::Object(support))
}

/// The answer, if the path is one of the three.
pub(crate) fn answer(documents: &WellKnown, method: &Method, path: &str) -> Option<Response<Body>> {
    let document = match path.strip_prefix("/.well-known/matrix/")? {
        "client" => Some(&documents.client),
        "server" => documents.server.as_ref(),
        "support" => documents.support.as_ref(),
        // No policy server is part of this one (client-server API, "Policy Servers").
        "policy_server" => None,
        _ => return None,
    };
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Some(body::error(StatusCode::METHOD_NOT_ALLOWED, "M_UNRECOGNIZED", "Only GET and HEAD are here."));
    }
    Some(document.map_or_else(
        || body::error(StatusCode::NOT_FOUND, "M_NOT_FOUND", "This agency does not say."),
        |document| body::respond(StatusCode::OK, "application/json", document.clone()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Contact};

    fn agency() -> Agency {
        Config::dev("data".into(), 8008).agency.remove(0)
    }

    #[test]
    fn clients_are_told_the_base_url() {
        let documents = WellKnown::new(&agency());
        assert_eq!(documents.client, r#"{"m.homeserver":{"base_url":"http://127.0.0.1:8008"}}"#);
        let answer = |path| answer(&documents, &Method::GET, path).map(|answer| answer.status().as_u16());
        assert_eq!(answer("/.well-known/matrix/client"), Some(200));
        assert_eq!(answer("/.well-known/matrix/server"), Some(404));
        assert_eq!(answer("/.well-known/matrix/support"), Some(404));
        assert_eq!(answer("/.well-known/matrix/policy_server"), Some(404));
        assert_eq!(answer("/.well-known/acme-challenge/x"), None);
    }

    #[test]
    fn clients_are_told_where_calls_meet() {
        let mut agency = agency();
        let livekit_service_url = "https://rtc.example".to_owned();
        agency.clients.calls.transport.push(client_api::RtcTransport { livekit_service_url });
        let documents = WellKnown::new(&agency);
        let client: Value = serde_json::from_slice(&documents.client).unwrap();
        let transport = json!({ "type": "livekit", "livekit_service_url": "https://rtc.example" });
        assert_eq!(client["org.matrix.msc4143.rtc_foci"], json!([transport]));
    }

    #[test]
    fn support_names_who_is_responsible() {
        let mut agency = agency();
        agency.well_known.contacts.push(Contact {
            role: "m.role.security".to_owned(),
            matrix_id: None,
            email_address: Some("a@b.example".to_owned()),
        });
        agency.well_known.support_page = Some("https://b.example".to_owned());
        assert_eq!(
            support(&agency).unwrap(),
            json!({
                "contacts": [{ "role": "m.role.security", "email_address": "a@b.example" }],
                "support_page": "https://b.example",
            }),
        );
    }
}
