//! Which state a client wants of a room (MSC4186, "RequiredStateRequest").

use ruma::UserId;

const MEMBER: &str = "m.room.member";

/// One pattern of state: what it leaves open matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Element {
    /// The event type.
    pub kind: Option<String>,
    /// The state key.
    pub state_key: Option<String>,
}

impl Element {
    fn matches(&self, kind: &str, state_key: &str) -> bool {
        self.kind.as_deref().is_none_or(|wanted| wanted == kind)
            && self.state_key.as_deref().is_none_or(|wanted| wanted == state_key)
    }
}

/// The state that one rule asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct RequiredState {
    /// What is wanted.
    pub include: Vec<Element>,
    /// What of it is not.
    pub exclude: Vec<Element>,
    /// Whether members are sent only as the timeline needs them, those apart who are included by their id.
    pub lazy: bool,
}

impl RequiredState {
    /// The state that pairs of a type and a state key ask for, as the unstable version of MSC4186 has them: `*`
    /// matches everything, the state key `$ME` is the user's own id, and `$LAZY` asks for lazily sent members.
    pub fn of_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>, me: &UserId) -> Self {
        let mut required = Self::default();
        for (kind, state_key) in pairs {
            if state_key == "$LAZY" {
                // Of other types there is nothing to be sent lazily.
                required.lazy |= kind == MEMBER || kind == "*";
                continue;
            }
            let state_key = if state_key == "$ME" { me.as_str() } else { state_key };
            let open = |text: &str| (text != "*").then(|| text.to_owned());
            required.include.push(Element { kind: open(kind), state_key: open(state_key) });
        }
        required
    }

    /// Whether a state event is wanted, whatever the timeline needs.
    #[must_use]
    pub fn matches(&self, kind: &str, state_key: &str) -> bool {
        let lazily = self.lazy && kind == MEMBER;
        self.include.iter().any(|element| {
            // With lazily sent members, only those named by their id are wanted in any case.
            element.matches(kind, state_key) && !(lazily && element.state_key.is_none())
        }) && !self.exclude.iter().any(|element| element.matches(kind, state_key))
    }

    /// Whether all members are wanted.
    fn has_all_members(&self) -> bool {
        let is_of_members = |element: &Element| element.kind.as_deref().is_none_or(|kind| kind == MEMBER);
        let all =
            |elements: &[Element]| elements.iter().any(|element| is_of_members(element) && element.state_key.is_none());
        !self.lazy && all(&self.include) && !all(&self.exclude)
    }
}

/// What has to be read to find the state that is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lookup {
    /// Single entries.
    pub keys: Vec<(String, String)>,
    /// All entries of these types.
    pub kinds: Vec<String>,
    /// All entries of the state. Then the other two are empty.
    pub all: bool,
}

/// The state that all rules which match a room ask for together: a superset of what each asks for (MSC4186,
/// "Combining room configs").
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Wanted {
    parts: Vec<RequiredState>,
}

impl Wanted {
    /// What these ask for together.
    #[must_use]
    pub fn combine<'a>(parts: impl IntoIterator<Item = &'a RequiredState>) -> Self {
        let mut wanted = Self::default();
        for part in parts {
            if !wanted.parts.contains(part) {
                wanted.parts.push(part.clone());
            }
        }
        wanted
    }

    /// The rules' parts.
    #[must_use]
    pub fn parts(&self) -> &[RequiredState] {
        &self.parts
    }

    /// Whether a state event is wanted, whatever the timeline needs.
    #[must_use]
    pub fn matches(&self, kind: &str, state_key: &str) -> bool {
        self.parts.iter().any(|part| part.matches(kind, state_key))
    }

    /// Whether members are sent as the timeline needs them: some rule asks for that, and none for all of them.
    #[must_use]
    pub fn is_lazy(&self) -> bool {
        self.parts.iter().any(|part| part.lazy) && !self.parts.iter().any(RequiredState::has_all_members)
    }

    /// What to read to find what is wanted beyond `known`: of parts that are known nothing.
    #[must_use]
    pub fn lookup_beyond(&self, known: &Self) -> Lookup {
        let mut lookup = Lookup::default();
        for element in self.parts.iter().filter(|part| !known.parts.contains(part)).flat_map(|part| &part.include) {
            match (&element.kind, &element.state_key) {
                (Some(kind), Some(key)) => lookup.keys.push((kind.clone(), key.clone())),
                (Some(kind), None) => lookup.kinds.push(kind.clone()),
                (None, _) => lookup.all = true,
            }
        }
        if lookup.all {
            return Lookup { all: true, ..Lookup::default() };
        }
        if self.is_lazy() {
            lookup.kinds.retain(|kind| kind != MEMBER);
        }
        lookup.kinds.sort_unstable();
        lookup.kinds.dedup();
        lookup.keys.retain(|(kind, _)| lookup.kinds.binary_search(kind).is_err());
        lookup.keys.sort_unstable();
        lookup.keys.dedup();
        lookup
    }

    /// The bytes of its texts, as a measure of what it takes to keep it.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(1, |text| text.len().saturating_add(1));
        let element = |element: &Element| text(&element.kind).saturating_add(text(&element.state_key));
        self.parts.iter().flat_map(|part| part.include.iter().chain(&part.exclude)).map(element).sum()
    }
}

impl FromIterator<RequiredState> for Wanted {
    fn from_iter<I: IntoIterator<Item = RequiredState>>(parts: I) -> Self {
        Self { parts: parts.into_iter().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ruma::user_id;

    fn pairs(pairs: &[(&str, &str)]) -> RequiredState {
        RequiredState::of_pairs(pairs.iter().copied(), user_id!("@me:x"))
    }

    fn element(kind: Option<&str>, state_key: Option<&str>) -> Element {
        Element { kind: kind.map(ToOwned::to_owned), state_key: state_key.map(ToOwned::to_owned) }
    }

    #[test]
    fn pairs_have_wildcards_and_the_users_own_id() {
        let required = pairs(&[("m.room.name", ""), ("m.space.child", "*"), ("*", "k"), (MEMBER, "$ME")]);
        for (kind, key) in [("m.room.name", ""), ("m.space.child", "!r:x"), ("any", "k"), (MEMBER, "@me:x")] {
            assert!(required.matches(kind, key), "{kind} {key}");
        }
        for (kind, key) in [("m.room.name", "x"), ("m.room.topic", ""), (MEMBER, "@you:x")] {
            assert!(!required.matches(kind, key), "{kind} {key}");
        }
    }

    #[test]
    fn lazily_sent_members_are_not_matched_by_wildcards() {
        let required = pairs(&[("*", "*"), (MEMBER, "$LAZY"), (MEMBER, "$ME")]);
        assert!(required.lazy && required.matches("m.room.topic", ""));
        assert!(required.matches(MEMBER, "@me:x") && !required.matches(MEMBER, "@you:x"));
        assert!(Wanted::combine([&required]).is_lazy());
    }

    #[test]
    fn what_is_excluded_by_one_rule_may_be_wanted_by_another() {
        let all = RequiredState {
            include: vec![element(None, None)],
            exclude: vec![element(Some("m.room.create"), Some(""))],
            lazy: false,
        };
        assert!(!all.matches("m.room.create", "") && all.matches("m.room.topic", ""));
        let create = pairs(&[("m.room.create", "")]);
        let wanted = Wanted::combine([&all, &create, &all]);
        assert_eq!(wanted.parts().len(), 2);
        assert!(wanted.matches("m.room.create", ""));
    }

    #[test]
    fn members_are_sent_lazily_unless_some_rule_wants_all() {
        let lazy = pairs(&[("*", "*"), (MEMBER, "$LAZY")]);
        let all = pairs(&[(MEMBER, "*")]);
        assert!(!Wanted::combine([&lazy, &all]).is_lazy());
        assert!(Wanted::combine([&lazy, &all]).matches(MEMBER, "@you:x"));
        let but_members =
            RequiredState { include: vec![Element::default()], exclude: all.include.clone(), lazy: false };
        assert!(Wanted::combine([&lazy, &but_members]).is_lazy());
        assert!(Wanted::combine([&lazy, &pairs(&[(MEMBER, "@a:x")])]).is_lazy());
    }

    #[test]
    fn only_what_is_not_known_is_looked_up() {
        let known = Wanted::combine([&pairs(&[("a", "")])]);
        let (one, other) = (pairs(&[("a", "")]), pairs(&[("b", "*"), ("b", "x"), ("c", "y"), ("c", "y")]));
        let lookup = Wanted::combine([&one, &other]).lookup_beyond(&known);
        let keys = vec![("c".to_owned(), "y".to_owned())];
        assert_eq!(lookup, Lookup { keys, kinds: vec!["b".to_owned()], all: false });
        assert_eq!(Wanted::combine([&one]).lookup_beyond(&known), Lookup::default());
        let all = Wanted::combine([&other, &pairs(&[("*", "k")])]).lookup_beyond(&known);
        assert_eq!(all, Lookup { all: true, ..Lookup::default() });
        let lazy = Wanted::combine([&pairs(&[(MEMBER, "*"), (MEMBER, "$LAZY"), (MEMBER, "$ME")])]);
        let keys = vec![(MEMBER.to_owned(), "@me:x".to_owned())];
        assert_eq!(lazy.lookup_beyond(&known), Lookup { keys, ..Lookup::default() });
    }
}
