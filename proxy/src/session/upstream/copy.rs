//! COPY as the server answers it: what it begins is held against the plan, rows it sends are opened.

use std::sync::Arc;

use pgveil_policy::{
    copy::{CopyFormat, CopyPlan, CopyRows},
    plan::Plan,
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Fate, UpstreamSide};
use crate::{
    messages::{CopyResponse, ErrorFields, Report, error_response::Severity},
    session::{
        SessionError,
        copy::{CopyJob, Refused, out_of_step, outgoing::Outgoing, unread},
        ledger::{Owed, PortalNamed},
        refuse,
        results::{ResultRules, is_ciphertext, stray_ciphertext},
        view::View,
    },
};

/// A COPY TO STDOUT that is going on.
pub(super) enum CopyingOut {
    /// Nothing protected is known in it: rows are looked at for ciphertext and relayed.
    Guarded,
    /// Its rows are opened.
    Opened(Box<Outgoing>),
}

/// What the analysis said of the COPY whose answer begins.
struct PlannedCopy {
    plan: Arc<CopyPlan>,
    view: Arc<View>,
    rules: Arc<pgveil_policy::Ruleset>,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> UpstreamSide<R, W> {
    fn planned_copy(&self) -> Option<PlannedCopy> {
        let mut ledger = self.shared.ledger();
        let copy = |plan: &Plan, at: usize| plan.statements.get(at)?.copy.clone();
        match ledger.front() {
            Some(Owed::Query(query)) => Some(PlannedCopy {
                plan: copy(&query.prepared.as_ref()?.plan, query.statement)?,
                view: Arc::clone(query.view.as_ref()?),
                rules: Arc::clone(query.ruleset.as_ref()?),
            }),
            Some(Owed::Execute {
                portal: PortalNamed::Bound(portal),
            }) => {
                let protected = portal.statement.protected.as_ref()?;
                Some(PlannedCopy {
                    plan: copy(&protected.prepared.plan, 0)?,
                    view: portal
                        .view
                        .clone()
                        .unwrap_or_else(|| Arc::clone(&protected.view)),
                    rules: Arc::clone(&protected.ruleset),
                })
            }
            _ => None,
        }
    }

    /// CopyInResponse.
    pub(super) fn begin_copy_in(&mut self) -> Result<Fate, SessionError> {
        let planned = self.planned_copy();
        let fits = match (&planned, self.reader.current()) {
            (Some(planned), Some(frame)) => {
                let response =
                    CopyResponse::read(frame.body).map_err(|_| SessionError::OutOfStep)?;
                match &planned.plan.rows {
                    CopyRows::In(rows) => Ok(response.columns().len() == rows.columns.len()
                        && response.binary == (planned.plan.format == CopyFormat::Binary)),
                    CopyRows::Unread => Err(unread()),
                    CopyRows::Out(_) => Ok(false),
                }
            }
            _ => Ok(true),
        };
        let job = planned
            .map(|planned| Arc::new(CopyJob::new(planned.plan, planned.view, planned.rules)));
        let mismatch = match fits {
            Ok(true) => None,
            Ok(false) => Some(out_of_step()),
            Err(refusal) => Some(refusal),
        };
        let mut ledger = self.shared.ledger();
        ledger.begin_copy_in(job.clone());
        if let (Some(job), Some(refusal)) = (job, mismatch) {
            job.refuse(Refused::whole(refusal));
            ledger.fail_copy = true;
            self.shared.fail.notify_one();
        }
        drop(ledger);
        self.shared.drained.notify_waiters();
        Ok(Fate::Pass)
    }

    /// CopyOutResponse.
    pub(super) fn begin_copy_out(&mut self) -> Result<Fate, SessionError> {
        let Some(planned) = self.planned_copy() else {
            self.copying_out = Some(CopyingOut::Guarded);
            return Ok(Fate::Pass);
        };
        let Some(frame) = self.reader.current() else {
            return Ok(Fate::Pass);
        };
        let response = CopyResponse::read(frame.body).map_err(|_| SessionError::OutOfStep)?;
        let binary = planned.plan.format == CopyFormat::Binary;
        let rows = match &planned.plan.rows {
            CopyRows::Out(rows)
                if rows.fields.len() == response.columns().len() && response.binary == binary =>
            {
                rows
            }
            CopyRows::Unread => return self.break_off(unread()),
            CopyRows::Out(_) | CopyRows::In(_) => return self.break_off(out_of_step()),
        };
        let formats = [i16::from(binary)];
        let rules = ResultRules::planned(&planned.rules, &planned.view, &rows.fields, &formats);
        let outgoing = Outgoing::new(Arc::clone(&planned.plan), rules);
        self.tell_withheld(outgoing.rules());
        self.copying_out = Some(CopyingOut::Opened(Box::new(outgoing)));
        Ok(Fate::Pass)
    }

    /// CopyData.
    pub(super) async fn copy_data(&mut self) -> Result<Fate, SessionError> {
        loop {
            let queue = self.client.settle(&mut self.reader);
            let Some(frame) = self.reader.current() else {
                return Ok(Fate::Pass);
            };
            let converted = match &mut self.copying_out {
                None => return Ok(Fate::Pass),
                Some(CopyingOut::Guarded) => {
                    let stray = is_ciphertext(frame.body)
                        || memchr::memmem::find(frame.body, b"PGV\x01").is_some();
                    return if stray {
                        self.break_off(stray_ciphertext())
                    } else {
                        Ok(Fate::Pass)
                    };
                }
                Some(CopyingOut::Opened(outgoing)) => outgoing.convert(
                    frame.body,
                    &self.shared.engine.keys,
                    &mut self.scratch,
                    queue,
                ),
            };
            match converted {
                Ok(None) => return Ok(Fate::Skip),
                Ok(Some(key)) => {
                    if let Err(refusal) = self.fetch_key(key).await {
                        return self.break_off(refusal);
                    }
                }
                Err(refusal) => return self.break_off(refusal),
            }
        }
    }

    /// An error that ends a COPY FROM STDIN, in the client's words; `None` where it is the server's alone.
    pub(super) fn copy_error(&mut self) -> Option<Fate> {
        let queue = self.client.settle(&mut self.reader);
        let frame = self.reader.current()?;
        let fields = ErrorFields::read(frame.body).ok()?;
        let mut ledger = self.shared.ledger();
        let job = ledger.copying.take()?;
        ledger.end_copy();
        drop(ledger);
        self.shared.drained.notify_waiters();
        let (report, refusal) = job.report(fields)?;
        self.shared.count_refusal(&refusal);
        refuse::put_report(queue, &report);
        Some(Fate::Skip)
    }

    /// A notice about a row that was left out quotes what pgveil put in the place of the client's value.
    pub(super) fn notice(&mut self) -> Fate {
        let Some(job) = self.shared.ledger().copying.clone() else {
            return Fate::Pass;
        };
        let queue = self.client.settle(&mut self.reader);
        let Some(frame) = self.reader.current() else {
            return Fate::Pass;
        };
        let Ok(fields) = ErrorFields::read(frame.body) else {
            return Fate::Pass;
        };
        let text = |code| {
            let bytes = fields.get(code);
            bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        };
        let Some(message) = text(b'M').and_then(|message| job.notice(&message)) else {
            return Fate::Pass;
        };
        let sqlstate = text(b'C').unwrap_or_default();
        let mut report = Report::new(Severity::Notice, sqlstate, message.as_str());
        report.detail = text(b'D');
        report.hint = text(b'H');
        report.context = text(b'W');
        refuse::put_report(queue, &report);
        Fate::Skip
    }
}
