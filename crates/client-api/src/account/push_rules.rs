//! Push rules (client-server API, "Push Rules: API").

use crate::limits::Class;
use crate::routes::Routes as _;
use crate::session::Session;
use crate::wire::{Args, Body};
use crate::{ApiError, State};
use axum::extract;
use axum::routing::get;
use axum::{Json, Router};
use http::Uri;
use rules::push::{Kind, NewRule, Place, Rule, Ruleset};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .v3("/pushrules", get(all))
        .v3("/pushrules/", get(all))
        .v3("/pushrules/global", get(global))
        .v3("/pushrules/global/", get(global))
        .v3("/pushrules/global/{kind}/{rule_id}", get(show).put(put).delete(remove))
        .v3("/pushrules/global/{kind}/{rule_id}/enabled", get(is_enabled).put(set_enabled))
        .v3("/pushrules/global/{kind}/{rule_id}/actions", get(actions).put(set_actions))
}

type Server = extract::State<Arc<State>>;
/// The kind and the id of a rule.
type Names = Args<(String, String)>;

/// `GET /pushrules/`
async fn all(extract::State(state): Server, session: Session) -> Result<Json<Value>, ApiError> {
    Ok(Json(json!({ "global": state.syncs.push_rules(&session.user_id)?.to_json() })))
}

/// `GET /pushrules/global/`
async fn global(extract::State(state): Server, session: Session) -> Result<Json<Value>, ApiError> {
    Ok(Json(state.syncs.push_rules(&session.user_id)?.to_json()))
}

/// `GET /pushrules/global/{kind}/{ruleId}`
async fn show(extract::State(state): Server, session: Session, Args(names): Names) -> Result<Json<Value>, ApiError> {
    let rules = state.syncs.push_rules(&session.user_id)?;
    Ok(Json(json!(rule(&rules, &names)?)))
}

/// `PUT /pushrules/global/{kind}/{ruleId}`: adds a rule, or changes one of the user's own.
async fn put(
    extract::State(state): Server,
    session: Session,
    Args((kind, rule_id)): Names,
    uri: Uri,
    Body(rule): Body<NewRule>,
) -> Result<Json<Value>, ApiError> {
    #[derive(Deserialize)]
    struct Neighbours {
        before: Option<String>,
        after: Option<String>,
    }
    state.limit(Class::Other, &session)?;
    let kind = Kind::of_name(&kind).ok_or_else(|| ApiError::invalid_param("there is no such kind of push rules"))?;
    let neighbours = extract::Query::<Neighbours>::try_from_uri(&uri);
    let extract::Query(Neighbours { before, after }) =
        neighbours.map_err(|error| ApiError::invalid_param(error.body_text()))?;
    let place = Place { before, after };
    let change = |rules: &mut Ruleset| rules.put(kind, &rule_id, rule.clone(), &place);
    state.syncs.change_push_rules(&session.user_id, change).await?;
    Ok(Json(json!({})))
}

/// `DELETE /pushrules/global/{kind}/{ruleId}`
async fn remove(
    extract::State(state): Server,
    session: Session,
    Args((kind, rule_id)): Names,
) -> Result<Json<Value>, ApiError> {
    state.limit(Class::Other, &session)?;
    let kind = known(&kind)?;
    state.syncs.change_push_rules(&session.user_id, |rules| rules.remove(kind, &rule_id)).await?;
    Ok(Json(json!({})))
}

/// `GET /pushrules/global/{kind}/{ruleId}/enabled`
async fn is_enabled(
    extract::State(state): Server,
    session: Session,
    Args(names): Names,
) -> Result<Json<Value>, ApiError> {
    let rules = state.syncs.push_rules(&session.user_id)?;
    Ok(Json(json!({ "enabled": rule(&rules, &names)?.enabled })))
}

/// Whether a rule is to be looked at.
#[derive(Deserialize)]
struct Enabled {
    enabled: bool,
}

/// `PUT /pushrules/global/{kind}/{ruleId}/enabled`
async fn set_enabled(
    extract::State(state): Server,
    session: Session,
    Args((kind, rule_id)): Names,
    Body(Enabled { enabled }): Body<Enabled>,
) -> Result<Json<Value>, ApiError> {
    state.limit(Class::Other, &session)?;
    let kind = known(&kind)?;
    let change = |rules: &mut Ruleset| rules.set_enabled(kind, &rule_id, enabled);
    state.syncs.change_push_rules(&session.user_id, change).await?;
    Ok(Json(json!({})))
}

/// `GET /pushrules/global/{kind}/{ruleId}/actions`
async fn actions(extract::State(state): Server, session: Session, Args(names): Names) -> Result<Json<Value>, ApiError> {
    let rules = state.syncs.push_rules(&session.user_id)?;
    Ok(Json(json!({ "actions": rule(&rules, &names)?.actions })))
}

/// What to do with events that match.
#[derive(Deserialize)]
struct Actions {
    actions: Vec<Value>,
}

/// `PUT /pushrules/global/{kind}/{ruleId}/actions`
async fn set_actions(
    extract::State(state): Server,
    session: Session,
    Args((kind, rule_id)): Names,
    Body(Actions { actions }): Body<Actions>,
) -> Result<Json<Value>, ApiError> {
    state.limit(Class::Other, &session)?;
    let kind = known(&kind)?;
    let change = |rules: &mut Ruleset| rules.set_actions(kind, &rule_id, actions.clone());
    state.syncs.change_push_rules(&session.user_id, change).await?;
    Ok(Json(json!({})))
}

fn not_found() -> ApiError {
    ApiError::not_found("the push rule was not found")
}

/// A kind of rules. Clients try kinds of proposals to find out whether a server has them, so that one which is
/// not known has no rules.
fn known(kind: &str) -> Result<Kind, ApiError> {
    Kind::of_name(kind).ok_or_else(not_found)
}

fn rule<'a>(rules: &'a Ruleset, (kind, rule_id): &(String, String)) -> Result<&'a Rule, ApiError> {
    rules.rule(known(kind)?, rule_id).ok_or_else(not_found)
}

#[cfg(test)]
mod tests {
    use crate::testing::Server;
    use http::StatusCode;
    use serde_json::{Value, json};

    const RULES: &str = "/_matrix/client/v3/pushrules/global";

    fn ids(rules: &Value, kind: &str) -> Vec<String> {
        let rules = rules[kind].as_array().unwrap().iter();
        rules.map(|rule| rule["rule_id"].as_str().unwrap().to_owned()).filter(|id| !id.starts_with('.')).collect()
    }

    #[tokio::test]
    async fn a_rule_is_put_shown_changed_and_removed() {
        let server = Server::new().await;
        let alice = server.user("alice").await;
        let token = Some(alice.token.as_str());
        let path = format!("{RULES}/content/cake");
        server.get(&path, token).await.refused(404, "M_NOT_FOUND");
        let body = json!({"pattern": "cake*lie", "actions": ["notify", {"set_tweak": "sound", "value": "x"}]});
        server.put(&path, token, &body).await.ok();
        let expected = json!({
            "rule_id": "cake", "default": false, "enabled": true, "pattern": "cake*lie", "actions": body["actions"],
        });
        assert_eq!(server.get(&path, token).await.ok(), expected);

        server.put(&format!("{path}/enabled"), token, &json!({"enabled": false})).await.ok();
        assert_eq!(server.get(&format!("{path}/enabled"), token).await.ok(), json!({"enabled": false}));
        server.put(&format!("{path}/actions"), token, &json!({"actions": ["dont_notify"]})).await.ok();
        assert_eq!(server.get(&format!("{path}/actions"), token).await.ok(), json!({"actions": ["dont_notify"]}));
        let all = server.get("/_matrix/client/v3/pushrules/", token).await.ok();
        assert_eq!(all["global"]["content"][0]["actions"], json!(["dont_notify"]));
        let data = format!("/_matrix/client/v3/user/{}/account_data/m.push_rules", alice.id);
        assert_eq!(server.get(&data, token).await.ok(), all);

        server.delete(&path, token, &json!({})).await.ok();
        server.get(&path, token).await.refused(404, "M_NOT_FOUND");
        server.delete(&path, token, &json!({})).await.refused(404, "M_NOT_FOUND");
    }

    #[tokio::test]
    async fn rules_stand_before_and_after_others() {
        let server = Server::new().await;
        let alice = server.user("alice").await;
        let token = Some(alice.token.as_str());
        let body = json!({"actions": ["notify"], "conditions": []});
        for (id, query) in [("a", ""), ("b", ""), ("c", "?before=a"), ("d", "?after=b")] {
            server.put(&format!("{RULES}/override/{id}{query}"), token, &body).await.ok();
        }
        let rules = server.get(&format!("{RULES}/"), token).await.ok();
        assert_eq!(ids(&rules, "override"), ["b", "d", "c", "a"]);
        assert_eq!(rules["override"][0]["rule_id"], ".m.rule.master");
        for query in ["?before=x", "?after=.m.rule.reaction"] {
            server.put(&format!("{RULES}/override/e{query}"), token, &body).await.refused(400, "M_UNKNOWN");
        }
    }

    #[tokio::test]
    async fn what_is_no_rule_is_refused() {
        let server = Server::new().await;
        let alice = server.user("alice").await;
        let token = Some(alice.token.as_str());
        let body = json!({"actions": []});
        for path in ["override/.mine", "override/a%2Fb", "override/a%5Cb", "room/x", "sender/x", "pre/x"] {
            server.put(&format!("{RULES}/{path}"), token, &body).await.refused(400, "M_INVALID_PARAM");
        }
        for (path, body) in [
            ("override/x", json!({})),
            ("override/x", json!({"actions": [7]})),
            ("override/x", json!({"actions": "notify"})),
            ("override/x", json!({"actions": [], "conditions": [{}]})),
            ("content/x", json!({"actions": []})),
            ("override/.m.rule.master/enabled", json!({"enabled": "yes"})),
            ("override/.m.rule.master/enabled", json!({})),
            ("override/.m.rule.master/actions", json!({"actions": {}})),
        ] {
            server.put(&format!("{RULES}/{path}"), token, &body).await.refused(400, "M_BAD_JSON");
        }
        let large = json!({"actions": ["x".repeat(10_000)]});
        server.put(&format!("{RULES}/override/x"), token, &large).await.refused(413, "M_TOO_LARGE");
        for path in ["pre/x", "override/x", "override/x/enabled", "override/x/actions"] {
            server.get(&format!("{RULES}/{path}"), token).await.refused(404, "M_NOT_FOUND");
        }
        let enabled = json!({"enabled": true});
        server.put(&format!("{RULES}/pre/x/enabled"), token, &enabled).await.refused(404, "M_NOT_FOUND");
        server.put(&format!("{RULES}/override/x/actions"), token, &body).await.refused(404, "M_NOT_FOUND");
        server.get(&format!("{RULES}/override/x"), None).await.refused(401, "M_MISSING_TOKEN");
    }

    #[tokio::test]
    async fn a_predefined_rule_is_changed_but_not_removed() {
        let server = Server::new().await;
        let alice = server.user("alice").await;
        let token = Some(alice.token.as_str());
        let path = format!("{RULES}/override/.m.rule.master");
        server.put(&format!("{path}/enabled"), token, &json!({"enabled": true})).await.ok();
        server.put(&format!("{path}/actions"), token, &json!({"actions": ["notify"]})).await.ok();
        let rule = server.get(&path, token).await.ok();
        assert_eq!(
            (&rule["enabled"], &rule["actions"], &rule["default"]),
            (&json!(true), &json!(["notify"]), &json!(true))
        );
        server.delete(&path, token, &json!({})).await.refused(404, "M_NOT_FOUND");
        server.put(&path, token, &json!({"actions": []})).await.refused(400, "M_INVALID_PARAM");
        let poll = format!("{RULES}/underride/.org.matrix.msc3930.rule.poll_start_one_to_one");
        assert_eq!(server.get(&poll, token).await.status, StatusCode::OK);
    }

    #[tokio::test]
    async fn a_change_is_told_to_the_user_and_what_changes_nothing_is_not() {
        let server = Server::new().await;
        let alice = server.user("alice").await;
        let token = Some(alice.token.as_str());
        let sync = async |since: &Value| {
            let since = since["next_batch"].as_str().map(|since| format!("?since={since}")).unwrap_or_default();
            server.get(&format!("/_matrix/client/v3/sync{since}"), token).await.ok()
        };
        let first = sync(&json!({})).await;
        let told = &first["account_data"]["events"][0];
        assert_eq!((&told["type"], &told["content"]["global"]["room"]), (&json!("m.push_rules"), &json!([])));
        let path = format!("{RULES}/room/!foo:example.com");
        server.put(&path, token, &json!({"actions": []})).await.ok();
        let second = sync(&first).await;
        let told = &second["account_data"]["events"][0]["content"]["global"]["room"][0];
        assert_eq!(told["rule_id"], "!foo:example.com");
        server.put(&path, token, &json!({"actions": []})).await.ok();
        server.put(&format!("{path}/enabled"), token, &json!({"enabled": true})).await.ok();
        assert!(sync(&second).await.get("account_data").is_none());
    }
}
