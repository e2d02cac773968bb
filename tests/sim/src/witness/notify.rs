//! What must hold of every NOTIFY that a server sends.

use std::time::Duration;

use lampfield::time::{T1, T2, T64, Time};

use super::{Dialog, DialogName, Notify, Said, UNDELIVERABLE, Witness, same, uri_of};
use crate::lamp::Document;
use crate::message::{Message, address, parameter};

impl Witness {
    pub(super) fn said_notify(&mut self, now: Time, message: Message) -> Result<Said, String> {
        let name = DialogName {
            call_id: message.header("Call-ID").unwrap_or_default().to_string(),
            phone_tag: message.tag("To").unwrap_or_default().to_string(),
            server_tag: message.tag("From").unwrap_or_default().to_string(),
        };
        let slack = self.slack;
        let keeps_time = !self.sends_fail;
        let removes = self.removes;
        let Some(dialog) = self.dialogs.get_mut(&name) else {
            return Err(format!(
                "a NOTIFY of a dialog that was never made: {name:?}"
            ));
        };
        let cseq = message.cseq().ok_or("a NOTIFY without CSeq")?;
        if let Some((since, why)) = dialog.dead
            && now.since(since) > slack
        {
            return Err(format!("a NOTIFY in a dialog that ended: {why}"));
        }
        let document = Document::read(&message)?;
        let again = match &mut dialog.last {
            Some(last) if cseq == last.cseq => {
                retransmitted(last, now, &message, slack, keeps_time)?;
                true
            }
            Some(last) if cseq != last.cseq + 1 => {
                return Err(format!("CSeq is {cseq}, the last one was {}", last.cseq));
            }
            Some(_) | None => false,
        };
        if !again {
            may_be_sent(dialog, now)?;
            if keeps_time && dialog.is_forgotten_at(now, Duration::ZERO) {
                return Err("a new NOTIFY of a dialog that its phone has forgotten".to_string());
            }
            let unanswered = dialog.last.as_ref().is_some_and(|last| {
                let over = now.since(last.first_sent) > T64 + slack;
                over && last.answered.is_none() && !last.stood_back(slack)
            });
            // A host that was asleep may have heard the answer before it looked at the time.
            if keeps_time && removes && unanswered && dialog.owed_since.is_none() {
                return Err("a new NOTIFY, and the one before was never answered".to_string());
            }
            // It was in the same turn as the one that cannot be sent, and had taken its place: only the newest counts.
            if dialog.dead == Some((now, UNDELIVERABLE)) {
                dialog.dead = None;
            }
            names_its_dialog(dialog, &message)?;
            states_the_subscription(dialog, now, &message)?;
            numbers_its_document(dialog, &document)?;
            dialog.owed_since = None;
            dialog.open.insert(cseq, now);
            if let Some(probed) = &mut dialog.probed {
                probed.asked.get_or_insert(now);
            }
            dialog.last = Some(Notify {
                cseq,
                bytes: message.bytes,
                first_sent: now,
                last_sent: now,
                sends: 1,
                provisional: false,
                answered: None,
                refused: false,
            });
        }
        Ok(Said::Notify {
            name,
            document,
            again,
        })
    }
}

impl Notify {
    /// What timer E waits after the sending that was the last one.
    fn interval(&self) -> Duration {
        (T1 * (1 << (self.sends - 1).min(8))).min(T2)
    }

    /// It was due to be sent once more, well before its end, and was not: a newer state waited to take its place, or
    /// the host was asleep. Then nobody can say that its phone did not answer.
    fn stood_back(&self, slack: Duration) -> bool {
        let longest = match self.provisional {
            true => T2,
            false => self.interval(),
        };
        self.last_sent + longest + slack + Duration::from_millis(2) < self.first_sent + T64
    }
}

/// RFC 3261 17.1.2.2: identical, at 0.5, 1.5, 3.5, 7.5 … s, for 64·T1, and never after an answer.
fn retransmitted(
    last: &mut Notify,
    now: Time,
    message: &Message,
    slack: Duration,
    keeps_time: bool,
) -> Result<(), String> {
    if message.bytes != last.bytes {
        return Err(format!("two different NOTIFYs with CSeq {}", last.cseq));
    }
    let allowed = slack + Duration::from_millis(2);
    if let Some((when, status)) = last.answered
        && now.since(when) > slack
    {
        return Err(format!("CSeq {} is repeated after its {status}", last.cseq));
    }
    if now.since(last.first_sent) > T64 + allowed {
        return Err(format!("CSeq {} is repeated after 64·T1", last.cseq));
    }
    let usual = last.interval();
    let shortest = if last.provisional {
        usual.min(T2)
    } else {
        usual
    };
    let longest = if last.provisional { T2 } else { usual };
    let gap = now.since(last.last_sent);
    if keeps_time && (gap < shortest || gap > longest + allowed) {
        return Err(format!(
            "retransmission {} of CSeq {} after {gap:?}, due after {usual:?}",
            last.sends, last.cseq
        ));
    }
    last.sends += 1;
    last.last_sent = now;
    Ok(())
}

/// RFC 6665 4.2.2: nothing new after the terminated one, or long after the granted time.
fn may_be_sent(dialog: &Dialog, now: Time) -> Result<(), String> {
    if dialog.ended {
        return Err("a new NOTIFY after the terminated one".to_string());
    }
    if now > dialog.deadline + T64 {
        return Err("a new NOTIFY later than the granted time + 64·T1".to_string());
    }
    Ok(())
}

/// RFC 3261 12.2.1.1, RFC 6665 4.2.2 and 8.2.1: it belongs to the dialog that the SUBSCRIBE made.
fn names_its_dialog(dialog: &Dialog, message: &Message) -> Result<(), String> {
    same("From", &uri_of(message, "From"), &dialog.to)?;
    same("To", &uri_of(message, "To"), &dialog.from)?;
    let loose = dialog
        .routes
        .first()
        .is_none_or(|route| address(route).split(';').any(|part| part.starts_with("lr")));
    if loose {
        let target = message.request_uri().unwrap_or_default();
        same("the Request-URI", target, &dialog.target)?;
        if message.list("Route") != dialog.routes {
            return Err(format!("Route is {:?}", message.list("Route")));
        }
    }
    let event = message.header("Event").ok_or("a NOTIFY without Event")?;
    let package = event.split(';').next().unwrap_or_default().trim();
    same("the package", package, &dialog.package)?;
    if parameter(event, "id") != dialog.id.as_deref() {
        return Err(format!("Event is {event:?}, the id was {:?}", dialog.id));
    }
    for name in ["Contact", "Max-Forwards", "CSeq"] {
        if message.header(name).is_none() {
            return Err(format!("a NOTIFY without {name}"));
        }
    }
    let via = message.header("Via").unwrap_or_default();
    match parameter(via, "branch") {
        Some(branch) if branch.starts_with("z9hG4bK") => Ok(()),
        Some(_) | None => Err(format!("Via is {via:?}")),
    }
}

/// RFC 6665 4.1.3: the state, and never more time than is left.
fn states_the_subscription(
    dialog: &mut Dialog,
    now: Time,
    message: &Message,
) -> Result<(), String> {
    let state = message
        .header("Subscription-State")
        .ok_or("no Subscription-State")?;
    match state.split(';').next().unwrap_or_default().trim() {
        "terminated" => {
            dialog.ended = true;
            match parameter(state, "reason") {
                Some(_) => Ok(()),
                None => Err("terminated without reason".to_string()),
            }
        }
        "active" | "pending" => {
            let until = if now < dialog.told {
                dialog.told
            } else {
                dialog.deadline
            };
            let left = until.since(now).as_millis().div_ceil(1000);
            match parameter(state, "expires").and_then(|text| text.parse::<u128>().ok()) {
                Some(stated) if stated <= left => Ok(()),
                Some(stated) => Err(format!("expires={stated}, and {left} s are left")),
                None => Err("no expires in Subscription-State".to_string()),
            }
        }
        other => Err(format!("the subscription state {other:?}")),
    }
}

/// RFC 4235 4.1: the version grows by one with each NOTIFY of a subscription, and the first is full.
fn numbers_its_document(dialog: &mut Dialog, document: &Document) -> Result<(), String> {
    match document {
        Document::Dialog {
            version,
            full,
            entity,
            ..
        } => {
            same("the entity", entity, &dialog.entity)?;
            match dialog.version {
                Some(before) if *version != before + 1 => {
                    return Err(format!("version is {version}, the last one was {before}"));
                }
                None if !full => return Err("the first document is not full".to_string()),
                Some(_) | None => {}
            }
            dialog.version = Some(*version);
            Ok(())
        }
        Document::Presence { entity, .. } => same("the entity", entity, &dialog.entity),
        Document::Empty | Document::Mailbox { .. } | Document::Other => Ok(()),
    }
}
