//! The message-summary package (RFC 3842): `application/simple-message-summary`, lines of text.

use crate::hint::{Aspect, Mailbox, MessageClass, MessageCount, Published, Snapshot};

use super::{
    ContentTypeId, LeftOut, Malformed, Package, PackageId, RenderOptions, Rendered, fitting,
};

const MEDIA_TYPE: &str = "application/simple-message-summary";

pub(super) const PACKAGE: Package = Package {
    id: PackageId(2),
    name: "message-summary",
    aspect: Aspect::Mailbox,
    default_expires_seconds: 3600,
    types: &[MEDIA_TYPE],
    publish_types: &[MEDIA_TYPE],
    render,
    head,
    parse,
};

/// A summary bears neither a version nor the name of its resource.
fn head(_: ContentTypeId, _: u32, _: &[u8], _: &mut [u8]) -> Option<usize> {
    Some(0)
}

//= RFC 3842 5.2
fn render(
    _: ContentTypeId,
    resource: &str,
    snapshot: &Snapshot,
    options: &RenderOptions,
) -> Rendered {
    let nothing = Mailbox::default();
    let mailbox = snapshot.mailbox.content.as_deref().unwrap_or(&nothing);
    let account = !options.withhold_details && is_other_account(&mailbox.account, resource);
    let counts = options.message_counts && !options.withhold_details;
    let steps = [
        ((account, counts), LeftOut::Nothing),
        ((false, counts), LeftOut::Details),
        ((false, false), LeftOut::Others),
    ];
    fitting(steps, options, |(account, counts)| {
        document(mailbox, account, counts)
    })
}

fn document(mailbox: &Mailbox, account: bool, counts: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    out.extend_from_slice(match mailbox.waiting {
        true => b"Messages-Waiting: yes\r\n",
        false => b"Messages-Waiting: no\r\n",
    });
    if account {
        out.extend_from_slice(b"Message-Account: ");
        out.extend_from_slice(mailbox.account.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    if counts {
        write_counts(&mut out, mailbox);
    }
    out
}

//= RFC 3842 3.6
/// The account is told where it differs from what was subscribed to. One that would break the line is not told.
fn is_other_account(account: &str, resource: &str) -> bool {
    let same = account
        .strip_prefix("sip:")
        .or_else(|| account.strip_prefix("sips:"))
        .is_some_and(|account| account == resource);
    !account.is_empty() && !same && !account.chars().any(char::is_control)
}

fn write_counts(out: &mut Vec<u8>, mailbox: &Mailbox) {
    const NO_VOICE: MessageCount = MessageCount {
        class: MessageClass::Voice,
        new: 0,
        old: 0,
        urgent: Some((0, 0)),
    };
    for count in &mailbox.counts {
        count_line(out, count);
    }
    // Some phones can't read a summary without any count.
    if mailbox.counts.is_empty() && !mailbox.waiting {
        count_line(out, &NO_VOICE);
    }
}

fn count_line(out: &mut Vec<u8>, count: &MessageCount) {
    out.extend_from_slice(count.class.name().as_bytes());
    let mut digits = itoa::Buffer::new();
    let mut push = |before: &str, number: u32| {
        out.extend_from_slice(before.as_bytes());
        out.extend_from_slice(digits.format(number).as_bytes());
    };
    push(": ", count.new);
    push("/", count.old);
    if let Some((new, old)) = count.urgent {
        push(" (", new);
        push("/", old);
        out.extend_from_slice(b")");
    }
    out.extend_from_slice(b"\r\n");
}

/// The summary ends at the first empty line; what follows describes single messages.
fn parse(_: usize, body: &[u8]) -> Result<Published, Malformed> {
    let text = core::str::from_utf8(body).map_err(|_| Malformed("the summary is not UTF-8"))?;
    let mut mailbox = Mailbox::default();
    let mut first = true;
    for line in text.split_terminator('\n') {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.is_empty() {
            break;
        }
        let (name, value) = line
            .split_once(':')
            .ok_or(Malformed("a line of the summary has no colon"))?;
        let (name, value) = (name.trim_end(), value.trim());
        if core::mem::take(&mut first) {
            mailbox.waiting = parse_status(name, value)?;
        } else if name.eq_ignore_ascii_case("Message-Account") {
            mailbox.account = value.into();
        } else if let Some(class) = class_of(name) {
            add_count(&mut mailbox.counts, parse_count(class, value)?);
        }
    }
    match first {
        true => Err(Malformed("the summary is empty")),
        false => Ok(Published::Mailbox(mailbox)),
    }
}

fn parse_status(name: &str, value: &str) -> Result<bool, Malformed> {
    if !name.eq_ignore_ascii_case("Messages-Waiting") {
        return Err(Malformed(
            "the summary does not begin with Messages-Waiting",
        ));
    }
    if value.eq_ignore_ascii_case("yes") {
        Ok(true)
    } else if value.eq_ignore_ascii_case("no") {
        Ok(false)
    } else {
        Err(Malformed("Messages-Waiting is neither yes nor no"))
    }
}

fn class_of(name: &str) -> Option<MessageClass> {
    MessageClass::ALL
        .into_iter()
        .find(|class| class.name().eq_ignore_ascii_case(name))
}

/// `2/8` or `2/8 (0/2)`.
fn parse_count(class: MessageClass, value: &str) -> Result<MessageCount, Malformed> {
    const WRONG: Malformed = Malformed("a message count is wrong");
    let pair = |text: &str| {
        let (new, old) = text.split_once('/')?;
        Some((number(new)?, number(old)?))
    };
    let (all, urgent) = match value.split_once('(') {
        None => (value, None),
        Some((all, urgent)) => {
            let urgent = urgent.trim_end().strip_suffix(')').ok_or(WRONG)?;
            (all, Some(pair(urgent).ok_or(WRONG)?))
        }
    };
    let (new, old) = pair(all).ok_or(WRONG)?;
    Ok(MessageCount {
        class,
        new,
        old,
        urgent,
    })
}

fn number(text: &str) -> Option<u32> {
    let text = text.trim();
    let only_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    only_digits.then(|| text.parse().ok()).flatten()
}

/// One count per class, the last one said, in the order of the classes.
fn add_count(counts: &mut Vec<MessageCount>, count: MessageCount) {
    match counts.binary_search_by_key(&count.class, |known| known.class) {
        Ok(place) => counts[place] = count,
        Err(place) => counts.insert(place, count),
    }
}
