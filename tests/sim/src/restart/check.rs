//! What must hold over all lives: what dialogs are told rises, and everybody is told, and shows what is so.

use std::time::Duration;

use lampfield::hint::HintState;
use lampfield::store::RestartNotify;

use super::phone::Phone;
use super::{Lives, RESOURCES, TOLD_WITHIN, Told, resource};
use crate::lamp::{Document, Lamp};
use crate::message::Message;

impl Lives {
    /// No phone has two dialogs of one Call-ID and tag of its own.
    pub(super) fn begins_once(
        &mut self,
        message: &Message,
        [own, ours]: [&str; 2],
    ) -> Result<(), String> {
        let tag = |name| message.tag(name).unwrap_or_default().to_string();
        let call_id = message.header("Call-ID").unwrap_or_default().to_string();
        let begun = self.begun.entry((call_id, tag(own)));
        let first = begun.or_insert_with(|| tag(ours));
        if *first != tag(ours) {
            let call_id = message.header("Call-ID");
            return Err(format!(
                "{call_id:?} is in two dialogs: {first} and {}",
                tag(ours)
            ));
        }
        Ok(())
    }

    /// Whoever asks again for what it has published is told of the same state of the same publication.
    pub(super) fn publishes_once(&mut self, message: &Message) -> Result<(), String> {
        let Some(tag) = message.header("SIP-ETag") else {
            return Ok(());
        };
        let call_id = message.header("Call-ID").unwrap_or_default().to_string();
        let answered = self.published.entry(call_id.clone());
        let first = answered.or_insert_with(|| tag.to_string());
        if first != tag {
            return Err(format!("{call_id} has made two states: {first} and {tag}"));
        }
        Ok(())
    }

    /// CSeq and version are above all that this dialog was ever sent, unless it is the last one once more.
    pub(super) fn rises(&mut self, message: &Message) -> Result<(), String> {
        let text = |name: &str| message.header(name).unwrap_or_default().to_string();
        let name = (
            text("Call-ID"),
            message.tag("From").unwrap_or_default().to_string(),
        );
        let is_active = text("Subscription-State").starts_with("active");
        if let Some(ended) = self.ended.get(&name).filter(|_| is_active)
            && *ended < self.up_since
        {
            return Err(format!("{name:?} ended at {ended:?}, and is told of"));
        }
        let cseq = message.cseq().ok_or("a NOTIFY without CSeq")?;
        let Document::Dialog { version, full, .. } = Document::read(message)? else {
            return Err("a NOTIFY with another document".to_string());
        };
        if let Some(told) = self.told.get(&name) {
            if cseq == told.cseq && message.bytes == told.bytes {
                return Ok(());
            }
            if cseq <= told.cseq || version <= told.version {
                return Err(format!(
                    "{name:?} is sent CSeq {cseq} with version {version}, and was sent {} with {}",
                    told.cseq, told.version
                ));
            }
        }
        if !full {
            return Err(format!("a document of {name:?} is not full"));
        }
        let bytes = message.bytes.clone();
        self.told.insert(
            name,
            Told {
                cseq,
                version,
                bytes,
            },
        );
        Ok(())
    }

    /// After a restart every subscription that was answered is told of the present state, without a word of its phone.
    pub(super) fn everybody_is_told(&self) -> Result<(), String> {
        let spares = self.restart_notify == RestartNotify::Changed;
        let up = self.edge.is_some() && self.now.since(self.up_since) > TOLD_WITHIN;
        let up = up && !(spares && self.was_in_order);
        if !up {
            return Ok(());
        }
        let untold = self.phones.iter().find_map(|phone| {
            let dialog = phone.waits(self.now + Duration::from_secs(1))?;
            (dialog.told_at < self.up_since).then_some((phone, dialog))
        });
        match untold {
            None => Ok(()),
            Some((phone, dialog)) => Err(format!(
                "{} is not told of a restart at {:?}: {dialog:?}, {} are kept",
                phone.address,
                self.up_since,
                self.disk.subscriptions()
            )),
        }
    }

    pub(super) fn all_show_what_is_so(&self) -> Result<(), String> {
        for phone in &self.phones {
            if phone.waits(self.now + Duration::from_secs(1)).is_none() {
                continue;
            }
            let index = (0..RESOURCES).find(|index| resource(*index) == phone.resource);
            let Some(index) = index else {
                self.shows_what_is_published(phone)?;
                continue;
            };
            let (state, answered) = self.hints[index];
            let lamp = match state {
                HintState::Ringing => Lamp::Blinking,
                HintState::InUse => Lamp::Lit,
                _ => Lamp::Dark,
            };
            if phone.shown != lamp || !answered {
                return Err(format!(
                    "{} shows {:?} for {}, which is {state} (answered: {answered})",
                    phone.address, phone.shown, phone.resource
                ));
            }
        }
        Ok(())
    }

    fn shows_what_is_published(&self, phone: &Phone) -> Result<(), String> {
        match self.publisher.shows(self.now) {
            Some(lamp) if phone.shown != lamp => Err(format!(
                "{} shows {:?}, and {lamp:?} is published: {:?}",
                phone.address, phone.shown, self.publisher
            )),
            Some(_) | None => Ok(()),
        }
    }
}
