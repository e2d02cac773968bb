//! Event and Subscription-State.

use super::lex::{self, Malformed};
use super::params::Params;
use super::via::set_once;

/// The Event header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventHeader<'a> {
    /// With its templates: `presence.winfo`. Compared byte by byte.
    pub package: &'a [u8],
    pub id: Option<&'a [u8]>,
    /// All of them, `id` included.
    pub params: Params<'a>,
}

impl<'a> EventHeader<'a> {
    //= RFC 6665 8.2.1
    pub fn parse(raw: &'a [u8]) -> Result<Self, Malformed> {
        let (package, rest) = leading_token(raw)?;
        let mut id = None;
        let params = Params::parse_each(rest, |param| {
            if param.is("id") {
                set_once(&mut id, param.value.ok_or(Malformed)?)
            } else {
                Ok(())
            }
        })?;
        Ok(EventHeader {
            package,
            id,
            params,
        })
    }
}

/// The Subscription-State header, as a subscriber reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriptionState<'a> {
    /// `active`, `pending`, `terminated` or something new.
    pub state: &'a [u8],
    pub expires: Option<u32>,
    pub reason: Option<&'a [u8]>,
    pub retry_after: Option<u32>,
    pub params: Params<'a>,
}

impl<'a> SubscriptionState<'a> {
    //= RFC 6665 8.2.3
    pub fn parse(raw: &'a [u8]) -> Result<Self, Malformed> {
        let (state, rest) = leading_token(raw)?;
        let (mut expires, mut reason, mut retry_after) = (None, None, None);
        let params = Params::parse_each(rest, |param| {
            if param.is("expires") {
                set_once(&mut expires, lex::expires(param.value.ok_or(Malformed)?)?)
            } else if param.is("retry-after") {
                set_once(
                    &mut retry_after,
                    lex::expires(param.value.ok_or(Malformed)?)?,
                )
            } else if param.is("reason") {
                set_once(&mut reason, param.value.ok_or(Malformed)?)
            } else {
                Ok(())
            }
        })?;
        Ok(SubscriptionState {
            state,
            expires,
            reason,
            retry_after,
            params,
        })
    }
}

fn leading_token(raw: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let raw = lex::trim(raw);
    let end = lex::skip(raw, 0, lex::is_token);
    if end == 0 {
        return Err(Malformed);
    }
    Ok(raw.split_at(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    //= RFC 6665 8.2.1 type=test
    #[test]
    fn an_event_has_a_package_and_perhaps_an_id() {
        let event = EventHeader::parse(b"dialog;sla; ID=x1 ;include-session-description").unwrap();
        assert_eq!(event.package, b"dialog");
        assert_eq!(event.id, Some(&b"x1"[..]));
        assert!(event.params.get("sla").is_some());
        let event = EventHeader::parse(b" presence.winfo ").unwrap();
        assert_eq!((event.package, event.id), (&b"presence.winfo"[..], None));
        for bad in [
            "",
            ";id=1",
            "a b",
            "dialog;id",
            "dialog;id=1;id=2",
            "dialog, presence",
            "dialog;",
        ] {
            assert_eq!(EventHeader::parse(bad.as_bytes()), Err(Malformed), "{bad}");
        }
    }

    //= RFC 6665 8.2.3 type=test
    #[test]
    fn a_subscription_state_has_its_numbers_and_reason() {
        let state =
            SubscriptionState::parse(b"terminated;reason=probation;retry-after=30").unwrap();
        assert_eq!(state.state, b"terminated");
        assert_eq!(state.reason, Some(&b"probation"[..]));
        assert_eq!((state.expires, state.retry_after), (None, Some(30)));
        let state = SubscriptionState::parse(b"active;expires=3599").unwrap();
        assert_eq!(state.expires, Some(3599));
        assert!(SubscriptionState::parse(b"active;expires=x").is_err());
    }
}
