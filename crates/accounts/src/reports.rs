//! Reports: what users tell the administrators of.

use crate::{Accounts, Error};
use records::{ReportRecord, Reported};
use ruma::UserId;

/// The longest reason of a report, in bytes.
pub const REPORT_REASON_BYTES_MAX: usize = 8 * 1024;

impl Accounts {
    /// Stores a report. Whether there is what it is about is for the caller to see.
    pub async fn report(&self, reporter: &UserId, reported: Reported, reason: String) -> Result<(), Error> {
        if reason.len() > REPORT_REASON_BYTES_MAX {
            return Err(Error::TooLarge("the reason"));
        }
        let report = ReportRecord { reporter: reporter.to_owned(), reported, reason, at: self.now() };
        self.change(|changes| {
            changes.put_report(&report);
            Ok(())
        })
        .await
    }
}
