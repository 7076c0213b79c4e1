//! One run of decisions about a room: facts looked up, decisions recorded, all in one batch.

mod backfill;
mod entering;
mod resolution;

use crate::actor::Basis;
use crate::erasures::Erasures;
use crate::event::{Events, StoredEvent};
use crate::glance::glance;
use crate::guests::GUEST_ACCESS;
use crate::listing::Listing;
use crate::reader::{kind_text, membership_in};
use crate::relating::Relations;
use crate::{RoomError, Txn, delayed};
use backfill::Past;
use base::{Clock, EventNum, Order, Random, RoomNum, UnixMillis, random_string};
use records::state_map::StateRoot;
use records::{
    Changes, EventRecord, EventStatus, LogEntry, Membership, MembershipRecord, Place, RecordsError, RoomHead, SentBy,
    TxnScope,
};
use resolution::Resolved;
use room_core::{
    Change, Draft, EarlyRedaction, Env, Facts, Input, Room, Standing, StateFacts, Tip, Verdict, decide, needs,
};
use rules::client_event::stripped_state;
use rules::pdu::has_written_event_id;
use rules::relation::{Relation, can_be_root};
use rules::{CheckedPdu, Pdu, PowerLevels, SigningKey, StateKey, redaction};
use ruma::events::StateEventType;
use ruma::events::room::member::MembershipState;
use ruma::{EventId, OwnedEventId, OwnedRoomId, OwnedUserId, RoomVersionId, UserId};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use store::Stamps;

/// How many entries of the current state are kept at hand between decisions.
const HOT_MAX: usize = 256;
/// The most bytes of one event that those outside of the room get to see; larger ones are left out.
const STRIPPED_BYTES_MAX: usize = 4096;
/// The letters of an event id's localpart in room versions 1 and 2.
const EVENT_ID_LETTERS: usize = 24;

/// What all rooms of an agency share.
pub(crate) struct Shared {
    pub events: Arc<Events>,
    pub erasures: Arc<Erasures>,
    pub key: Arc<SigningKey>,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
}

/// A room between two runs.
#[derive(Clone)]
pub(crate) struct Loaded {
    pub head: RoomHead,
    pub room: Room,
    /// The numbers of the forward extremities.
    tips: HashMap<OwnedEventId, EventNum>,
    /// Entries of the current state that decisions asked for, `None` for those that it has not.
    hot: HashMap<StateKey, Option<(EventNum, Arc<Pdu>)>>,
    /// What states made of each other lately.
    resolved: Resolved,
}

impl Loaded {
    /// A room before its first event.
    pub fn new(head: RoomHead, room: Room) -> Self {
        Self { head, room, tips: HashMap::new(), hot: HashMap::new(), resolved: Resolved::default() }
    }

    /// A room as the store has it.
    pub fn read(shared: &Shared, view: &records::View, head: RoomHead, mut room: Room) -> Result<Self, RoomError> {
        let mut tips = HashMap::new();
        for event in shared.events.get(view, &room.rules, &head.extremities)? {
            let reference_hash = match has_written_event_id(&room.rules) {
                true => rules::draft::reference_hash_of(&event.pdu, &room.rules)?,
                false => String::new(),
            };
            let event_id = event.pdu.event_id().clone();
            tips.insert(event_id.clone(), event.num);
            room.tips.push(Tip { event_id, depth: event.pdu.depth(), reference_hash });
        }
        Ok(Self { head, room, tips, hot: HashMap::new(), resolved: Resolved::default() })
    }
}

/// An event that a run adds.
pub(crate) struct Added {
    nth: u16,
    num: EventNum,
    record: EventRecord,
    pdu: Arc<Pdu>,
}

impl Added {
    /// The same in a batch where it comes `by` stamps later.
    pub fn shifted(self, by: u16) -> Self {
        Self { nth: self.nth.saturating_add(by), ..self }
    }
}

/// A run: decisions in turn, each on top of the ones before.
pub(crate) struct Work {
    pub(crate) shared: Arc<Shared>,
    pub(crate) num: RoomNum,
    pub(crate) now: UnixMillis,
    pub loaded: Loaded,
    pub changes: Changes,
    /// What the published room directory may have to show.
    pub(crate) listing: Listing,
    pub(crate) added: Vec<Added>,
    /// What the run places before all that was known.
    past: Vec<Past>,
    /// Events that are not what they were when they were written.
    pub(crate) rewritten: Vec<EventNum>,
    /// Events that the run removes for good.
    pub(crate) purged: HashSet<EventNum>,
    /// Redactions of this run whose targets are not known.
    early: HashMap<OwnedEventId, Vec<EventNum>>,
    /// All events that the run has written, in the timeline or not.
    written: HashMap<EventNum, Arc<Pdu>>,
    /// The relations that the run makes and breaks.
    pub(crate) relations: Relations,
    /// A change was recorded in part.
    pub(crate) is_broken: bool,
    /// Whether guests may join has changed.
    guests_changed: bool,
    /// The room that this run has replaced the room by, and its version.
    pub(crate) replaced_by: Option<(RoomVersionId, OwnedRoomId)>,
    /// The state was set without an event of the timeline.
    state_set: bool,
}

impl Work {
    pub fn new(shared: Arc<Shared>, num: RoomNum, loaded: Loaded, changes: Changes) -> Self {
        let now = shared.clock.now();
        Self {
            shared,
            num,
            now,
            listing: Listing::of(&loaded.head),
            loaded,
            changes,
            added: Vec::new(),
            past: Vec::new(),
            rewritten: Vec::new(),
            purged: HashSet::new(),
            early: HashMap::new(),
            written: HashMap::new(),
            relations: Relations::default(),
            is_broken: false,
            guests_changed: false,
            replaced_by: None,
            state_set: false,
        }
    }

    /// The room.
    pub fn num(&self) -> RoomNum {
        self.num
    }

    /// Whether the run may have changed whether guests may join.
    pub fn guests_changed(&self) -> bool {
        self.guests_changed
    }

    /// Whether the run changes the room itself.
    pub fn has_events(&self) -> bool {
        self.state_set || !self.added.is_empty() || !self.past.is_empty()
    }

    /// Decides about a draft, and records what comes of it.
    pub fn draft(&mut self, draft: Draft, txn: Option<&Txn>, basis: Option<&Basis>) -> Result<OwnedEventId, RoomError> {
        if let Some(txn) = txn
            && let Some(event_id) = delayed::check(&self.changes, txn)?
        {
            return Ok(event_id);
        }
        if let Some(basis) = basis
            && self.changes.membership(&basis.user, self.num)?.map(|record| record.event) != basis.event
        {
            return Err(RoomError::Outdated);
        }
        if let Some(txn) = txn
            && let Some((_, event_id)) = self.changes.txn(txn.scope(&draft.sender), &txn.txn_id)?
        {
            return Ok(event_id);
        }
        self.expect_account(&draft)?;
        self.expect_not_blocked(&draft)?;
        self.check_guest(&draft)?;
        let timed = draft.timestamp.is_some();
        let change = self.decided(draft)?;
        let event_id = change.pdu.event_id().clone();
        // Setting what is set already changes nothing, and makes no event.
        if !timed && let Some(same) = self.same_as_current(&change)? {
            self.remember(txn, change.pdu.sender(), &same)?;
            return Ok(same);
        }
        self.check_relation(&change.pdu)?;
        let sender = change.pdu.sender().to_owned();
        self.record(&change, self.loaded.head.state, txn)?;
        self.whole(|work| work.remember(txn, &sender, &event_id))?;
        Ok(event_id)
    }

    /// Makes the event of a draft, and records nothing.
    pub fn prepare(&mut self, draft: Draft, basis: Option<&Basis>) -> Result<Arc<Pdu>, RoomError> {
        if let Some(basis) = basis
            && self.changes.membership(&basis.user, self.num)?.map(|record| record.event) != basis.event
        {
            return Err(RoomError::Outdated);
        }
        Ok(self.decided(draft)?.pdu)
    }

    /// Decides about a draft, and records nothing yet.
    pub(crate) fn decided(&mut self, draft: Draft) -> Result<Box<Change>, RoomError> {
        let input = Input::Draft(draft);
        let needs = needs(&self.loaded.room, &input)?;
        let current = self.state_facts(&needs.state)?;
        let facts = Facts { current, events: self.events(&needs.events)?, ..Facts::default() };
        let fresh = match has_written_event_id(&self.loaded.room.rules) {
            true => random_string(&*self.shared.random, EVENT_ID_LETTERS),
            false => String::new(),
        };
        let env = Env { now: self.now, key: &self.shared.key, fresh: &fresh };
        match decide(env, &self.loaded.room, input, &facts) {
            Verdict::Change(change) => Ok(change),
            Verdict::Refused(refusal) => Err(refusal.into()),
            Verdict::Missing(ids) => Err(RoomError::Missing(ids)),
        }
    }

    /// Decides about an event of another server, and records what comes of it. An event that is known
    /// already changes nothing. The state before it follows from the events that it follows, if all of them are
    /// known, and is looked up in `states` if not.
    pub fn event(
        &mut self,
        event: CheckedPdu,
        states: &HashMap<OwnedEventId, Vec<OwnedEventId>>,
    ) -> Result<OwnedEventId, RoomError> {
        let event_id = event.event_id().clone();
        if self.is_known(&event_id)? {
            return Ok(event_id);
        }
        let (before, input) = match (self.state_after(event.prev_events()), states.get(&event_id)) {
            (Err(RoomError::Missing(_)), Some(given)) => {
                (self.given_state(given, self.loaded.head.state)?, Input::Given(event))
            }
            (state, _) => (state?, Input::Event(event)),
        };
        self.judge(input, &event_id, before)
    }

    fn judge(&mut self, input: Input, event_id: &OwnedEventId, before: StateRoot) -> Result<OwnedEventId, RoomError> {
        let needs = needs(&self.loaded.room, &input)?;
        let before_facts = match before == self.loaded.head.state {
            true => None,
            false => Some(self.state_facts_at(before, &needs.state)?),
        };
        let facts = Facts {
            current: self.state_facts(&needs.state)?,
            before: before_facts,
            events: self.events(&needs.events)?,
            redactions: self.early_redactions(event_id)?,
        };
        let env = Env { now: self.now, key: &self.shared.key, fresh: "" };
        match decide(env, &self.loaded.room, input, &facts) {
            Verdict::Change(change) => {
                self.record(&change, before, None)?;
                Ok(event_id.clone())
            }
            Verdict::Refused(refusal) => Err(refusal.into()),
            Verdict::Missing(ids) => Err(RoomError::Missing(ids)),
        }
    }

    /// A user of this server whose account has ended enters no room any more: not even with a request that began
    /// before it ended.
    fn expect_account(&mut self, draft: &Draft) -> Result<(), RoomError> {
        let enters = draft.kind == "m.room.member"
            && draft.state_key.as_deref() == Some(draft.sender.as_str())
            && matches!(membership_in(&draft.content), MembershipState::Join | MembershipState::Knock);
        if enters {
            if self.changes.view().has_ended(&draft.sender)? {
                return Err(RoomError::Forbidden("the account is deactivated".to_owned()));
            }
            self.changes.expect_not_ended(&draft.sender);
        }
        Ok(())
    }

    /// The state after these events, all of which must be known with their state.
    pub(crate) fn state_after(&mut self, event_ids: &[OwnedEventId]) -> Result<StateRoot, RoomError> {
        let (mut states, mut missing) = (Vec::new(), Vec::new());
        for id in event_ids {
            let num = self.changes.event_num(id)?;
            match num.map(|num| self.changes.event(num)).transpose()?.flatten() {
                Some(record) if record.room == self.num && record.status != EventStatus::Outlier => {
                    states.push(record.state_after);
                }
                _ => missing.push(id.clone()),
            }
        }
        if !missing.is_empty() {
            return Err(RoomError::Missing(missing));
        }
        self.resolve(states)
    }

    /// Marks a room as forgotten by somebody who is not in it.
    pub fn forget(&mut self, user: &UserId) -> Result<(), RoomError> {
        let Some(record) = self.changes.membership(user, self.num)? else {
            return Err(RoomError::NotFound("your membership of the room"));
        };
        if matches!(record.membership, Membership::Join | Membership::Invite | Membership::Knock) {
            return Err(RoomError::InvalidParam("leave the room before you forget it".to_owned()));
        }
        if record.forgotten {
            return Ok(());
        }
        let nth = self.changes.stamp();
        self.changes.put_membership(nth, user, self.num, &MembershipRecord { forgotten: true, ..record })?;
        self.changes.log(nth, &LogEntry::Forgotten { user: user.to_owned(), room: self.num });
        Ok(())
    }

    /// Writes the head, so that the batch can be committed.
    pub fn finish(&mut self) -> Result<(), RoomError> {
        if self.is_broken {
            return Err(RoomError::Unwritable);
        }
        self.list()?;
        if self.has_events() || !self.purged.is_empty() {
            if self.relations.write(self.num, &mut self.changes)? {
                self.loaded.head.relations += 1;
            }
            self.loaded.head.generation += 1;
            self.changes.put_room_head(self.num, &self.loaded.head)?;
        }
        Ok(())
    }

    /// What to keep in memory once the batch is committed.
    pub fn committed(self) -> Committed {
        Committed { loaded: self.loaded, added: self.added, rewritten: self.rewritten }
    }

    fn remember(&mut self, txn: Option<&Txn>, sender: &UserId, event_id: &OwnedEventId) -> Result<(), RoomError> {
        match txn {
            Some(txn) if txn.delayed_id().is_some() => {
                delayed::note_sent(&mut self.changes, txn, event_id, self.now)?;
            }
            Some(txn) => self.changes.put_txn(txn.scope(sender), &txn.txn_id, self.now, event_id),
            None => {}
        }
        Ok(())
    }

    /// The id of the current state event, if `change` would set the same content in the same name again.
    fn same_as_current(&mut self, change: &Change) -> Result<Option<OwnedEventId>, RoomError> {
        let Some(key) = &change.sets else { return Ok(None) };
        let Some((_, current)) = self.current(key)? else { return Ok(None) };
        let value = |pdu: &Pdu| serde_json::from_str::<serde_json::Value>(pdu.content().get()).ok();
        let same = current.sender() == change.pdu.sender() && value(&current) == value(&change.pdu);
        Ok(same.then(|| current.event_id().clone()))
    }

    /// Refuses what a user of this server should not relate: threads within threads (client-server API,
    /// "Validation of `m.thread` relationships"), and the same annotation twice ("Avoiding duplicate annotations").
    fn check_relation(&self, pdu: &Pdu) -> Result<(), RoomError> {
        let Some(relation) = Relation::of(pdu) else { return Ok(()) };
        if relation.is_thread()
            && let Some(root) = self.events(std::slice::from_ref(&relation.target))?.values().next()
            && !can_be_root(root)
        {
            return Err(RoomError::InvalidRelation("a thread cannot start from an event that relates to another"));
        }
        let (sender, kind) = (pdu.sender(), pdu.kind_str());
        if self.relations.has_annotation(&self.changes, self.num, sender, kind, &relation)? {
            return Err(RoomError::DuplicateAnnotation);
        }
        Ok(())
    }

    /// The event at an entry of the current state.
    pub(crate) fn current(&mut self, key: &StateKey) -> Result<Option<(EventNum, Arc<Pdu>)>, RoomError> {
        if let Some(found) = self.loaded.hot.get(key) {
            return Ok(found.clone());
        }
        let num = self.loaded.head.state.get(&self.changes, &kind_text(&key.0), &key.1)?;
        let found = match num {
            Some(num) => self.pdu(num)?.map(|pdu| (num, pdu)),
            None => None,
        };
        if self.loaded.hot.len() >= HOT_MAX {
            self.loaded.hot.clear();
        }
        self.loaded.hot.insert(key.clone(), found.clone());
        Ok(found)
    }

    fn state_facts(&mut self, keys: &[StateKey]) -> Result<StateFacts, RoomError> {
        let mut facts = StateFacts::new();
        for key in keys {
            if let Some((_, pdu)) = self.current(key)? {
                facts.insert(key.clone(), pdu);
            }
        }
        Ok(facts)
    }

    fn state_facts_at(&self, state: StateRoot, keys: &[StateKey]) -> Result<StateFacts, RoomError> {
        let mut facts = StateFacts::new();
        for key in keys {
            if let Some(num) = state.get(&self.changes, &kind_text(&key.0), &key.1)?
                && let Some(pdu) = self.pdu(num)?
            {
                facts.insert(key.clone(), pdu);
            }
        }
        Ok(facts)
    }

    fn events(&self, ids: &[OwnedEventId]) -> Result<HashMap<OwnedEventId, Arc<Pdu>>, RoomError> {
        let mut events = HashMap::new();
        for id in ids {
            if let Some(num) = self.changes.event_num(id)?
                && self.changes.event(num)?.is_some_and(|record| record.room == self.num)
                && let Some(pdu) = self.pdu(num)?
            {
                events.insert(id.clone(), pdu);
            }
        }
        Ok(events)
    }

    /// An event, one of this run included.
    pub(crate) fn pdu(&self, num: EventNum) -> Result<Option<Arc<Pdu>>, RoomError> {
        if let Some(pdu) = self.written.get(&num) {
            return Ok(Some(pdu.clone()));
        }
        let event = self.shared.events.get_one(self.changes.view(), &self.loaded.room.rules, num)?;
        Ok(event.map(|event| event.pdu.clone()))
    }

    /// Records a change.
    pub(crate) fn record(
        &mut self,
        change: &Change,
        state_before: StateRoot,
        txn: Option<&Txn>,
    ) -> Result<(), RoomError> {
        self.whole(|work| work.write(change, state_before, txn))
    }

    /// Writes what belongs together. If that fails half-way, nothing of the run can be committed any more.
    fn whole<T>(&mut self, write: impl FnOnce(&mut Self) -> Result<T, RoomError>) -> Result<T, RoomError> {
        self.is_broken = true;
        let written = write(self)?;
        self.is_broken = false;
        Ok(written)
    }

    fn write(&mut self, change: &Change, state_before: StateRoot, txn: Option<&Txn>) -> Result<(), RoomError> {
        let (num, pdu, mut record) = self.new_record(change, state_before)?;
        record.sent_by = txn.map(|txn| SentBy { device_id: txn.device_id.clone(), txn_id: txn.txn_id.clone() });
        if change.standing != Standing::Accepted {
            // A soft-failed state event counts for the events that follow it, though not for the room.
            if let (Standing::SoftFailed(_), Some(key)) = (&change.standing, pdu.state_key()) {
                let kind = pdu.kind().to_string();
                record.state_after = state_before.set(&mut self.changes, &[(&kind, key, num)])?;
            }
            self.changes.put_event_outside(num, &record);
            return Ok(());
        }
        let nth = self.changes.stamp();
        let mut member = None;
        let head_before = self.loaded.head.state;
        if let Some(key) = &change.sets {
            let kind = kind_text(&key.0);
            record.replaces = match state_before == head_before {
                true => self.current(key)?.map(|(num, _)| num),
                false => state_before.get(&self.changes, &kind, &key.1)?,
            };
            record.state_after = state_before.set(&mut self.changes, &[(&kind, &key.1, num)])?;
        }
        let tips = &change.tips;
        if tips.len() == 1 {
            self.loaded.head.state = record.state_after;
        } else {
            // What is resolved is looked up by number and by id, this event as well.
            self.changes.append_event(nth, num, &record, glance(&pdu, false));
            let mut states = vec![record.state_after];
            for (id, tip) in &self.loaded.tips {
                if tips.iter().any(|tip| tip.event_id == *id) {
                    states.extend(self.changes.event(*tip)?.map(|record| record.state_after));
                }
            }
            self.loaded.head.state = self.resolve(states)?;
        }
        let current = self.loaded.head.state;
        record.resolved = (state_before != head_before || current != record.state_after).then_some(current);
        self.added.push(Added { nth, num, record: record.clone(), pdu: pdu.clone() });
        if change.sets.as_ref().is_some_and(|(kind, _)| *kind == StateEventType::RoomGuestAccess)
            || record.resolved.is_some()
        {
            let [before, after] = [head_before, current].map(|state| state.get(&self.changes, GUEST_ACCESS, ""));
            self.guests_changed |= before? != after?;
        }
        match &change.sets {
            // The state is what it was, with this entry: nothing else can have changed.
            Some(key) if state_before == head_before && self.loaded.head.state == record.state_after => {
                if key.0 == StateEventType::RoomMember {
                    member = self.member_changed(nth, (num, &pdu), num)?;
                }
                self.loaded.hot.insert(key.clone(), Some((num, pdu.clone())));
                self.listing.note(key);
            }
            _ if self.loaded.head.state == head_before => {}
            _ => {
                self.listing.note_all();
                self.loaded.hot.clear();
                member = self.members_resolved(nth, head_before, num)?;
            }
        }
        self.redact_others(change, num)?;
        self.changes.append_event(nth, num, &record, glance(&pdu, record.redacted_by.is_some()));
        self.relations.make(Place::New(nth), num, &pdu);
        self.changes.put_time(nth, self.num, UnixMillis(pdu.origin_server_ts().0.into()), num);
        self.changes.log(nth, &LogEntry::Event { room: self.num, event: num, member });

        self.loaded.room.apply(change);
        self.loaded.tips.insert(record.event_id.clone(), num);
        let tips = &change.tips;
        self.loaded.tips.retain(|id, _| tips.iter().any(|tip| tip.event_id == *id));
        self.loaded.head.extremities =
            tips.iter().filter_map(|tip| self.loaded.tips.get(&tip.event_id)).copied().collect();
        self.loaded.head.depth = tips.iter().map(|tip| tip.depth).max().unwrap_or_default();
        Ok(())
    }

    /// What is to be stored of the event of a change, with its number: redacted, if the redaction was here first.
    fn new_record(
        &mut self,
        change: &Change,
        state_before: StateRoot,
    ) -> Result<(EventNum, Arc<Pdu>, EventRecord), RoomError> {
        let event_id = change.pdu.event_id();
        let known = self.changes.event_num(event_id)?;
        let outlier = known.map(|num| self.changes.event(num)).transpose()?.flatten();
        let num = match known {
            Some(num) => {
                // Readers may know it as an outlier.
                self.rewritten.push(num);
                num
            }
            None => self.changes.ids().event()?,
        };
        let early = change.redacted_by.as_deref().map(|id| self.changes.event_num(id)).transpose()?.flatten();
        let redacted_by = outlier.and_then(|outlier| outlier.redacted_by).or(early);
        let pdu = match redacted_by {
            Some(_) => Arc::new(redaction::redact(&change.pdu, &self.loaded.room.rules).map_err(RoomError::internal)?),
            None => change.pdu.clone(),
        };
        if early.is_some() {
            self.changes.clear_pending_redactions(self.num, event_id);
        }
        let status = match &change.standing {
            Standing::Accepted => EventStatus::Accepted,
            Standing::Outlier => EventStatus::Outlier,
            Standing::SoftFailed(reason) | Standing::Rejected(reason) => {
                tracing::info!(%event_id, %reason, "an event is not let into its room");
                match change.standing {
                    Standing::Rejected(_) => EventStatus::Rejected,
                    _ => EventStatus::SoftFailed,
                }
            }
        };
        let record = EventRecord {
            room: self.num,
            event_id: event_id.clone(),
            status,
            state_before,
            state_after: state_before,
            resolved: None,
            replaces: None,
            redacted_by,
            sent_by: None,
            json: pdu.json().to_owned(),
        };
        self.written.insert(num, pdu.clone());
        Ok((num, pdu, record))
    }

    /// Brings the member tables in line with a current state that was resolved. Answers whose membership the
    /// event `num` itself changed.
    fn members_resolved(
        &mut self,
        nth: u16,
        before: StateRoot,
        num: EventNum,
    ) -> Result<Option<OwnedUserId>, RoomError> {
        let differences: Vec<_> =
            before.diff(&self.changes, self.loaded.head.state).collect::<Result<_, RecordsError>>()?;
        let mut member = None;
        for difference in differences.into_iter().filter(|difference| difference.kind == "m.room.member") {
            let Ok(user) = OwnedUserId::try_from(difference.state_key) else { continue };
            let own = difference.after == Some(num);
            let at = if own { nth } else { self.changes.stamp() };
            match difference.after {
                Some(event) => {
                    if let Some(pdu) = self.pdu(event)? {
                        member = self.member_changed(at, (event, &pdu), num)?.filter(|_| own).or(member);
                    }
                }
                None => self.member_gone(at, &user, num)?,
            }
            if !own {
                self.changes.log(at, &LogEntry::Membership { user, room: self.num });
            }
        }
        Ok(member)
    }

    /// What the room shows to an invited or knocking user: a JSON array of stripped events, with the
    /// membership events of those who sent and who get `member`.
    fn stripped_state(&mut self, member: &Pdu) -> Result<String, RoomError> {
        let mut keys: Vec<StateKey> =
            crate::reader::STRIPPED_TYPES.iter().map(|kind| (StateEventType::from(*kind), String::new())).collect();
        if member.state_key() != Some(member.sender().as_str()) {
            keys.push((StateEventType::RoomMember, member.sender().to_string()));
        }
        let mut parts = Vec::new();
        for key in &keys {
            parts.extend(self.current(key)?.and_then(|(_, pdu)| stripped_state(&pdu)));
        }
        parts.extend(stripped_state(member));
        // It is stored with every invitation and told before anybody has agreed to anything.
        parts.retain(|part| part.len() <= STRIPPED_BYTES_MAX);
        Ok(format!("[{}]", parts.join(",")))
    }

    /// Takes out of the room what an event redacts, or keeps in mind that it will.
    fn redact_others(&mut self, change: &Change, num: EventNum) -> Result<(), RoomError> {
        if let Some(target) = &change.awaits {
            self.changes.put_pending_redaction(self.num, target, num);
            self.early.entry(target.clone()).or_default().push(num);
        }
        match &change.redacts {
            Some(target) => self.redact(target, num),
            None => Ok(()),
        }
    }

    /// The redactions that were accepted before the event that they redact.
    fn early_redactions(&self, target: &EventId) -> Result<Vec<EarlyRedaction>, RoomError> {
        let mut nums = self.changes.view().pending_redactions(self.num, target)?;
        nums.extend(self.early.get(target).into_iter().flatten());
        let mut redactions = Vec::with_capacity(nums.len());
        for num in nums {
            let Some(pdu) = self.pdu(num)? else { continue };
            let Some(record) = self.changes.event(num)? else { continue };
            let before = self.state_facts_at(record.state_before, &PowerLevels::state_needed())?;
            redactions.push(EarlyRedaction { pdu, before });
        }
        Ok(redactions)
    }

    /// Takes an event's content out of the room.
    fn redact(&mut self, target: &EventId, by: EventNum) -> Result<(), RoomError> {
        let Some(num) = self.changes.event_num(target)? else { return Ok(()) };
        self.listing.note_all();
        self.guests_changed |= self.loaded.head.state.get(&self.changes, GUEST_ACCESS, "")? == Some(num);
        if let Some(added) = self.added.iter_mut().find(|added| added.num == num) {
            // It is of this very run: its place has no number yet, so it is written again as it was.
            let pdu = redaction::redact(&added.pdu, &self.loaded.room.rules).map_err(RoomError::internal)?;
            pdu.json().clone_into(&mut added.record.json);
            added.record.redacted_by = Some(by);
            added.pdu = Arc::new(pdu);
            self.written.insert(num, added.pdu.clone());
            self.changes.append_event(added.nth, num, &added.record, glance(&added.pdu, true));
            self.relations.break_new(num);
            self.refresh_hot(num)?;
            return Ok(());
        }
        if self.redact_past(num, by)? {
            return Ok(());
        }
        let (order, mut record) = match self.changes.view().event(num)? {
            Some(found) => found,
            // It is of this run, and in no timeline.
            None => match self.changes.event(num)? {
                Some(record) => (Order(0), record),
                None => return Ok(()),
            },
        };
        let rules = &self.loaded.room.rules;
        let json = std::mem::take(&mut record.json);
        let pdu = Pdu::parse_stored(record.event_id.clone(), json, rules, false).map_err(RoomError::internal)?;
        if record.status == EventStatus::Accepted {
            self.relations.break_known(order, num, &pdu);
        }
        let pdu = redaction::redact(&pdu, rules).map_err(RoomError::internal)?;
        pdu.json().clone_into(&mut record.json);
        record.redacted_by.get_or_insert(by);
        self.changes.rewrite_event(order, num, &record, glance(&pdu, true));
        self.rewritten.push(num);
        for entry in self.loaded.hot.values_mut().flatten().filter(|entry| entry.0 == num) {
            entry.1 = Arc::new(
                Pdu::parse_stored(record.event_id.clone(), pdu.json(), rules, false).map_err(RoomError::internal)?,
            );
        }
        Ok(())
    }

    fn refresh_hot(&mut self, num: EventNum) -> Result<(), RoomError> {
        let Some(pdu) = self.pdu(num)? else { return Ok(()) };
        for entry in self.loaded.hot.values_mut().flatten().filter(|entry| entry.0 == num) {
            entry.1 = pdu.clone();
        }
        Ok(())
    }
}

/// A run after its commit.
pub(crate) struct Committed {
    pub loaded: Loaded,
    added: Vec<Added>,
    rewritten: Vec<EventNum>,
}

impl Committed {
    /// Lets readers see the events without reading them from the store.
    pub fn publish(self, shared: &Shared, stamps: Stamps) -> Loaded {
        for num in self.rewritten {
            shared.events.redact(stamps.last, num);
        }
        for Added { nth, num, record, pdu } in self.added {
            let order = Order::from(stamps.nth(nth));
            shared.events.put(Arc::new(StoredEvent::new(num, order, record, pdu)));
        }
        self.loaded
    }
}

impl Txn {
    pub(crate) fn scope<'a>(&'a self, sender: &'a UserId) -> TxnScope<'a> {
        TxnScope { user: sender, device_id: &self.device_id, endpoint: &self.endpoint }
    }
}
