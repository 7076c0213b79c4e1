//! Sliding syncs as their callers see them.

mod connection;
mod cost;
mod histories;
mod lists;
mod rooms;

use super::*;
use crate::{SlidingForm, SlidingRequest, ToDeviceRequest};
use sync_core::sliding::{Element, Extensions, ListFilter, ListRule, RequiredState, RoomRule, Rules, Scope};

/// The state of a rule: types and state keys, an asterisk for any.
pub fn state(pairs: &[(&str, &str)]) -> RequiredState {
    RequiredState::of_pairs(pairs.iter().copied(), &bob())
}

pub fn rule(timeline_limit: usize, pairs: &[(&str, &str)]) -> RoomRule {
    RoomRule { timeline_limit, required_state: state(pairs) }
}

/// One list over a range of all rooms.
pub fn list(range: (usize, usize), room: RoomRule) -> Rules {
    let list = ListRule { room, ranges: Some(vec![range]), filter: ListFilter::default() };
    Rules { lists: [("all".to_owned(), list)].into(), ..Rules::default() }
}

pub fn filtered_list(filter: &ListFilter) -> Rules {
    let mut rules = list((0, 99), rule(1, &[]));
    for list in rules.lists.values_mut() {
        list.filter = filter.clone();
    }
    rules
}

/// A request of bob's that does not wait.
pub fn sliding(position: Option<&Value>, rules: &Rules) -> SlidingRequest {
    SlidingRequest {
        user_id: bob(),
        device_id: "DEVICE".into(),
        connection: "main".to_owned(),
        position: position.map(|response| response["pos"].as_str().unwrap().to_owned()),
        rules: rules.clone(),
        to_device: ToDeviceRequest::default(),
        timeout: Duration::ZERO,
        form: SlidingForm::Stable,
        txn_id: None,
    }
}

impl World {
    pub async fn slide(&self, position: Option<&Value>, rules: &Rules) -> Value {
        self.slide_with(sliding(position, rules)).await
    }

    pub async fn slide_with(&self, request: SlidingRequest) -> Value {
        serde_json::from_str(&self.syncs.sliding(request).await.unwrap()).unwrap()
    }

    /// Forgets what is in memory, as a restart does.
    pub fn restart(&mut self) {
        self.syncs = Syncs::new(self.records.clone(), self.rooms.clone(), self.clock.clone(), Config::default());
    }
}

/// The ids of the rooms that a response tells of, sorted.
pub fn told(response: &Value) -> Vec<&str> {
    response["rooms"].as_object().unwrap().keys().map(String::as_str).collect()
}

pub fn of<'a>(response: &'a Value, room: &RoomId) -> &'a Value {
    &response["rooms"][room.as_str()]
}

/// Events in short; see [`short`].
pub fn brief(events: &Value) -> Vec<String> {
    short(&json!({"events": events}))
}

pub fn element(kind: Option<&str>, state_key: Option<&str>) -> Element {
    Element { kind: kind.map(ToOwned::to_owned), state_key: state_key.map(ToOwned::to_owned) }
}

pub fn extensions(extensions: Extensions, rules: Rules) -> Rules {
    Rules { extensions, ..rules }
}

pub fn everywhere() -> Scope {
    Scope::default()
}
