//! Mails that tell users what happened to their accounts.

use super::language_of;
use crate::State;
use crate::session::ClientAddress;
use accounts::EMAIL;
use base::UnixMillis;
use http::HeaderMap;
use mailer::{Mail, Template};
use ruma::UserId;

/// Tells a user that their password was changed.
pub(in crate::account) fn password_changed(state: &State, headers: &HeaderMap, user: &UserId) {
    if state.accounts.config().addresses.notify_password_changed {
        tell(state, headers, user, Template::PasswordChanged, |mail| mail);
    }
}

/// Tells a user that somebody logged in to their account.
pub(in crate::account) fn new_login(
    state: &State,
    headers: &HeaderMap,
    user: &UserId,
    device: &str,
    address: ClientAddress,
) {
    if state.accounts.config().addresses.notify_new_login {
        tell(state, headers, user, Template::NewLogin, |mail| {
            mail.with("device", device).with("address", address.0.to_canonical().to_string())
        });
    }
}

/// Nothing depends on it: what can't be told is logged.
fn tell(state: &State, headers: &HeaderMap, user: &UserId, template: Template, more: impl Fn(Mail) -> Mail) {
    let Some(way) = &state.mail else { return };
    let threepids = match state.accounts.threepids(user) {
        Ok(threepids) => threepids,
        Err(error) => return tracing::error!(%error, "the addresses of a user can't be read"),
    };
    let language = language_of(headers, way);
    for threepid in threepids.iter().filter(|threepid| threepid.medium == EMAIL) {
        let Ok(address) = threepid.address.parse() else { continue };
        let mail = Mail::new(address, template, language).with("user_id", user).with("at", shown(state.clock.now()));
        if let Err(error) = way.mailer.send(&more(mail)) {
            tracing::warn!(%error, "a user is not told what happened to their account");
        }
    }
}

/// A time as people read it, such as `2026-11-22 06:40 UTC`.
fn shown(at: UnixMillis) -> String {
    let minutes = at.0 / 60_000;
    let (days, minutes) = (minutes / 1440, minutes % 1440);
    // The civil calendar, counted in years that begin in March: then the day that may be missing is the last.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + next;
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_by_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_399, "2000-02-28 23:59 UTC"),
            (951_782_400, "2000-02-29 00:00 UTC"),
            (1_700_000_000, "2023-11-14 22:13 UTC"),
            (4_107_542_400, "2100-03-01 00:00 UTC"),
        ] {
            assert_eq!(shown(UnixMillis(seconds * 1000)), expected);
        }
    }
}
