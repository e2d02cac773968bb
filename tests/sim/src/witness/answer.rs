//! What must hold of every answer that a server sends.

use std::collections::BTreeMap;
use std::time::Duration;

use lampfield::time::{T64, Time};

use super::{Dialog, DialogName, Heard, Probed, Said, Watch, Witness, request_key, same, uri_of};
use crate::message::{Message, address, parameter};

impl Witness {
    pub(super) fn said_answer(&mut self, now: Time, answer: &Message) -> Result<Said, String> {
        let key = request_key(answer).unwrap_or_default();
        let Some(heard) = self.heard.get_mut(&key) else {
            return Ok(Said::AnswerToUnread);
        };
        let status = answer.status().expect("an answer has a status");
        repeats_the_request(&heard.message, answer, status)?;
        // The transaction may have been over, or the host asleep when it should have been.
        let late = matches!(heard.answer, Some((_, _, when)) if now.since(when) >= T64);
        let again = repeats_the_first_answer(now, heard, answer, status)?;
        let request = &heard.message;
        let stands = request.method() == Some("SUBSCRIBE") && request.tag("To").is_some();
        if turns_away(answer) && stands {
            return Err("what stands already is refused for want of room".to_string());
        }
        if status == 481 && stands {
            // It ends, or has ended in silence: nobody is to be asked about it.
            if let Some(dialog) = self.dialogs.get_mut(&dialog_name(request, answer)) {
                dialog.disowned = true;
            }
        }
        if (!again || late) && (200..300).contains(&status) {
            match request.method() {
                Some("SUBSCRIBE") => {
                    accepts(request, answer)?;
                    let (name, dialog) = subscribed(now, request, answer, self.jitters);
                    // RFC 5839 8.2: to 204 no NOTIFY follows.
                    self.granted(now, name, dialog, !again && status != 204);
                }
                Some("PUBLISH") => published(answer, request)?,
                Some(_) | None => {}
            }
        }
        Ok(Said::Answer { again })
    }

    /// A 2xx to SUBSCRIBE makes a dialog or refreshes one.
    fn granted(&mut self, now: Time, name: DialogName, fresh: Dialog, owes: bool) {
        match self.dialogs.get_mut(&name) {
            Some(dialog) => {
                let former = dialog.target.clone();
                if !fresh.target.is_empty() {
                    dialog.target = fresh.target.clone();
                }
                dialog.deadline = fresh.deadline;
                dialog.told = fresh.told;
                // Whoever refreshes a dialog knows it.
                dialog.probed = None;
                if owes {
                    dialog.owed_since = Some(now);
                }
                if !fresh.target.is_empty() && fresh.target != former {
                    let from = dialog.watch.from.clone();
                    self.moved(&from, &former, &fresh.target);
                }
            }
            None => {
                if fresh.deadline > now {
                    self.superseded(now, &name.call_id, &fresh.watch);
                }
                let equals = self.watches.entry(fresh.watch.clone()).or_default();
                equals.push(name.clone());
                self.dialogs.insert(name, fresh);
            }
        }
    }

    /// A phone has a new Contact: all its dialogs that had the former one have it.
    fn moved(&mut self, from: &str, former: &str, target: &str) {
        let all = self.dialogs.values_mut();
        for dialog in all.filter(|dialog| dialog.watch.from == from && dialog.target == former) {
            dialog.target = target.to_string();
        }
    }

    /// A phone has a new dialog: the equal ones that it had may be ghosts.
    fn superseded(&mut self, now: Time, call_id: &str, watch: &Watch) {
        for name in self.watches.get(watch).into_iter().flatten() {
            let Some(dialog) = self.dialogs.get_mut(name) else {
                continue;
            };
            // What ends already is told so.
            let ended = dialog.ended || dialog.disowned || dialog.dead.is_some();
            let lives = !ended && dialog.deadline > now;
            if name.call_id != call_id && lives {
                if self.replaces {
                    dialog.dead = Some((now, "its phone has subscribed anew"));
                } else if self.probes
                    && dialog.known.is_none_or(|when| now.since(when) > self.slack)
                {
                    // What was said at the same time may have come before it inside.
                    dialog.probed.get_or_insert(Probed {
                        since: now,
                        asked: None,
                        in_doubt: false,
                    });
                }
            }
        }
    }
}

/// RFC 3261 8.2.6.2: Via, From, Call-ID and CSeq are those of the request, To gets a tag.
fn repeats_the_request(request: &Message, answer: &Message, status: u16) -> Result<(), String> {
    let (asked, said) = (request.list("Via"), answer.list("Via"));
    if asked.len() != said.len() || asked[1..] != said[1..] {
        return Err(format!("Via is {said:?} and the request had {asked:?}"));
    }
    let bare = |via: &str| via.split(';').next().unwrap_or_default().trim().to_string();
    same("the top Via", &bare(&said[0]), &bare(&asked[0]))?;
    let from = unfolded(request.header("From").unwrap_or_default());
    same("From", answer.header("From").unwrap_or_default(), &from)?;
    let to = request.header("To").unwrap_or_default();
    let said_to = answer.header("To").unwrap_or_default();
    let to = &unfolded(to);
    let from_to = address(to).to_string();
    if parameter(to, "tag").is_some() || status == 100 {
        same("To", said_to, to)?;
    } else if !from_to.is_empty() {
        same("the URI of To", address(said_to), address(to))?;
        if !said_to.starts_with(to.as_str()) || parameter(said_to, "tag").is_none_or(str::is_empty)
        {
            return Err(format!("To is {said_to:?}, the request had {to:?}"));
        }
    }
    Ok(())
}

/// A folded header stands in one line of an answer.
fn unfolded(value: &str) -> String {
    value.trim().to_string()
}

/// RFC 3261 17.2.2: a retransmitted request gets the same answer, and no second dialog.
fn repeats_the_first_answer(
    now: Time,
    heard: &mut Heard,
    answer: &Message,
    status: u16,
) -> Result<bool, String> {
    if status < 200 {
        return Ok(false);
    }
    let tag = answer.tag("To").map(str::to_string);
    match &heard.answer {
        Some((first, first_tag, _)) if *first == status && *first_tag == tag => Ok(true),
        // Nothing remembers a challenge either: when the request comes again, there may be no room for it.
        Some((401 | 407, _, _)) if turns_away(answer) => {
            heard.turned_away = true;
            Ok(false)
        }
        Some((first, first_tag, when)) if now.since(*when) < T64 && !heard.turned_away => {
            Err(format!(
                "the answer is {status} with {tag:?}, and was {first} with {first_tag:?} before"
            ))
        }
        // After timer J the same request is a new one; and nothing remembers what was refused for want of room: asked
        // again, it may be taken on.
        Some(_) | None => {
            heard.turned_away = turns_away(answer);
            heard.answer = Some((status, tag, now));
            Ok(false)
        }
    }
}

fn dialog_name(request: &Message, answer: &Message) -> DialogName {
    DialogName {
        call_id: request.header("Call-ID").unwrap_or_default().to_string(),
        phone_tag: request.tag("From").unwrap_or_default().to_string(),
        server_tag: answer.tag("To").unwrap_or_default().to_string(),
    }
}

/// A server that has no room says when it may have some.
fn turns_away(answer: &Message) -> bool {
    matches!(answer.status(), Some(500 | 503)) && answer.header("Retry-After").is_some()
}

/// RFC 6665 4.2.1.1, RFC 3261 12.1.1: what a 2xx to SUBSCRIBE must carry.
fn accepts(request: &Message, answer: &Message) -> Result<(), String> {
    let granted = seconds(answer).ok_or("a 2xx to SUBSCRIBE without Expires")?;
    if seconds(request).is_some_and(|asked| granted > asked) {
        return Err(format!("{granted} s are granted, more than was asked for"));
    }
    if answer.header("Contact").is_none() {
        return Err("a 2xx to SUBSCRIBE without Contact".to_string());
    }
    if request.tag("To").is_none() && request.list("Record-Route") != answer.list("Record-Route") {
        return Err("Record-Route is not what the request had".to_string());
    }
    Ok(())
}

/// RFC 3903 6: what a 2xx to PUBLISH must carry.
fn published(answer: &Message, request: &Message) -> Result<(), String> {
    let granted = seconds(answer).ok_or("a 2xx to PUBLISH without Expires")?;
    if seconds(request).is_some_and(|asked| granted > asked) {
        return Err(format!("{granted} s are granted, more than was asked for"));
    }
    match answer.header("SIP-ETag") {
        // What was removed needs no name.
        None if granted == 0 => Ok(()),
        Some(tag) if !tag.is_empty() => Ok(()),
        Some(_) | None => Err("a 2xx to PUBLISH without SIP-ETag".to_string()),
    }
}

fn subscribed(
    now: Time,
    request: &Message,
    answer: &Message,
    jitters: bool,
) -> (DialogName, Dialog) {
    let name = dialog_name(request, answer);
    let event = request.header("Event").unwrap_or_default();
    let package = event.split(';').next().unwrap_or_default().trim();
    let granted = seconds(answer).unwrap_or_default();
    let contact = request.header("Contact").unwrap_or_default();
    let device = match contact.split_once("+sip.instance=") {
        Some((_, instance)) => instance.split('>').next(),
        None => address(contact).split(';').next(),
    };
    let device = device.unwrap_or_default().to_string();
    let watch = Watch {
        from: uri_of(request, "From"),
        device,
        entity: request.request_uri().unwrap_or_default().to_string(),
        package: package.to_string(),
        id: parameter(event, "id").map(str::to_string),
    };
    let dialog = Dialog {
        watch,
        probed: None,
        known: None,
        target: uri_of(request, "Contact"),
        routes: request.list("Record-Route"),
        package: package.to_string(),
        id: parameter(event, "id").map(str::to_string),
        from: uri_of(request, "From"),
        to: uri_of(request, "To"),
        entity: request.request_uri().unwrap_or_default().to_string(),
        told: now + Duration::from_secs(granted),
        deadline: now
            + Duration::from_secs(if jitters {
                kept(request, granted)
            } else {
                granted
            }),
        owed_since: Some(now),
        last: None,
        open: BTreeMap::new(),
        version: None,
        ended: false,
        disowned: false,
        dead: None,
    };
    (name, dialog)
}

/// So long is a subscription kept whose phone was told `granted` seconds: jitter takes a tenth at most, from long times.
fn kept(request: &Message, granted: u64) -> u64 {
    match granted {
        ..540 => granted,
        _ => (granted * 10)
            .div_ceil(9)
            .min(seconds(request).unwrap_or(u64::MAX)),
    }
}

fn seconds(message: &Message) -> Option<u64> {
    message.header("Expires")?.parse().ok()
}
