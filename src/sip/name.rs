//! The header names that the scanner locates, in long and compact form, in any case.

/// A header that somebody in this program looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Name {
    Accept,
    AcceptEncoding,
    Allow,
    AllowEvents,
    Authorization,
    CallId,
    Contact,
    ContentEncoding,
    ContentLength,
    ContentType,
    CSeq,
    Date,
    Event,
    Expires,
    From,
    MaxForwards,
    MinExpires,
    PAssertedIdentity,
    ProxyAuthenticate,
    ProxyAuthorization,
    ProxyRequire,
    RecordRoute,
    Require,
    RetryAfter,
    Route,
    Server,
    SipEtag,
    SipIfMatch,
    SubscriptionState,
    Supported,
    SuppressIfMatch,
    To,
    Unsupported,
    UserAgent,
    Via,
    WwwAuthenticate,
}

impl Name {
    /// How many there are.
    pub const COUNT: usize = Name::ALL.len();

    /// All of them, in the order of their numbers.
    pub const ALL: [Name; 36] = [
        Name::Accept,
        Name::AcceptEncoding,
        Name::Allow,
        Name::AllowEvents,
        Name::Authorization,
        Name::CallId,
        Name::Contact,
        Name::ContentEncoding,
        Name::ContentLength,
        Name::ContentType,
        Name::CSeq,
        Name::Date,
        Name::Event,
        Name::Expires,
        Name::From,
        Name::MaxForwards,
        Name::MinExpires,
        Name::PAssertedIdentity,
        Name::ProxyAuthenticate,
        Name::ProxyAuthorization,
        Name::ProxyRequire,
        Name::RecordRoute,
        Name::Require,
        Name::RetryAfter,
        Name::Route,
        Name::Server,
        Name::SipEtag,
        Name::SipIfMatch,
        Name::SubscriptionState,
        Name::Supported,
        Name::SuppressIfMatch,
        Name::To,
        Name::Unsupported,
        Name::UserAgent,
        Name::Via,
        Name::WwwAuthenticate,
    ];

    /// The known header of this name, long or compact.
    //= RFC 3261 7.3.3
    pub fn of(name: &[u8]) -> Option<Name> {
        if let [letter] = name {
            return Name::of_compact(*letter);
        }
        // Few names share a length, so this is one or two comparisons.
        let candidates: &[Name] = match name.len() {
            2 => &[Name::To],
            3 => &[Name::Via],
            4 => &[Name::From, Name::CSeq, Name::Date],
            5 => &[Name::Event, Name::Route, Name::Allow],
            6 => &[Name::Accept, Name::Server],
            7 => &[Name::CallId, Name::Contact, Name::Expires, Name::Require],
            8 => &[Name::SipEtag],
            9 => &[Name::Supported],
            10 => &[Name::UserAgent],
            11 => &[Name::RetryAfter, Name::MinExpires, Name::Unsupported],
            12 => &[
                Name::MaxForwards,
                Name::ContentType,
                Name::RecordRoute,
                Name::AllowEvents,
                Name::SipIfMatch,
            ],
            13 => &[Name::Authorization, Name::ProxyRequire],
            14 => &[Name::ContentLength],
            15 => &[Name::AcceptEncoding],
            16 => &[Name::ContentEncoding, Name::WwwAuthenticate],
            17 => &[Name::SuppressIfMatch],
            18 => &[Name::SubscriptionState, Name::ProxyAuthenticate],
            19 => &[Name::ProxyAuthorization, Name::PAssertedIdentity],
            _ => &[],
        };
        let key = key(name);
        candidates.iter().copied().find(|candidate| {
            KEYS[*candidate as usize] == key
                && (name.len() <= 16 || name.eq_ignore_ascii_case(candidate.as_str().as_bytes()))
        })
    }

    fn of_compact(letter: u8) -> Option<Name> {
        Some(match letter.to_ascii_lowercase() {
            b'c' => Name::ContentType,
            b'e' => Name::ContentEncoding,
            b'f' => Name::From,
            b'i' => Name::CallId,
            b'k' => Name::Supported,
            b'l' => Name::ContentLength,
            b'm' => Name::Contact,
            b'o' => Name::Event,
            b't' => Name::To,
            b'u' => Name::AllowEvents,
            b'v' => Name::Via,
            _ => return None,
        })
    }

    /// The long form, as we write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Name::Accept => "Accept",
            Name::AcceptEncoding => "Accept-Encoding",
            Name::Allow => "Allow",
            Name::AllowEvents => "Allow-Events",
            Name::Authorization => "Authorization",
            Name::CallId => "Call-ID",
            Name::Contact => "Contact",
            Name::ContentEncoding => "Content-Encoding",
            Name::ContentLength => "Content-Length",
            Name::ContentType => "Content-Type",
            Name::CSeq => "CSeq",
            Name::Date => "Date",
            Name::Event => "Event",
            Name::Expires => "Expires",
            Name::From => "From",
            Name::MaxForwards => "Max-Forwards",
            Name::MinExpires => "Min-Expires",
            Name::PAssertedIdentity => "P-Asserted-Identity",
            Name::ProxyAuthenticate => "Proxy-Authenticate",
            Name::ProxyAuthorization => "Proxy-Authorization",
            Name::ProxyRequire => "Proxy-Require",
            Name::RecordRoute => "Record-Route",
            Name::Require => "Require",
            Name::RetryAfter => "Retry-After",
            Name::Route => "Route",
            Name::Server => "Server",
            Name::SipEtag => "SIP-ETag",
            Name::SipIfMatch => "SIP-If-Match",
            Name::SubscriptionState => "Subscription-State",
            Name::Supported => "Supported",
            Name::SuppressIfMatch => "Suppress-If-Match",
            Name::To => "To",
            Name::Unsupported => "Unsupported",
            Name::UserAgent => "User-Agent",
            Name::Via => "Via",
            Name::WwwAuthenticate => "WWW-Authenticate",
        }
    }
}

/// The key of each name, in the order of their numbers.
const KEYS: [(u64, u64); Name::COUNT] = {
    let mut keys = [(0, 0); Name::COUNT];
    let mut index = 0;
    while index < Name::COUNT {
        keys[index] = key(Name::ALL[index].as_str().as_bytes());
        index += 1;
    }
    keys
};

/// The first and the last eight bytes, or four, in lower case: all there is of a name of up to 16 bytes.
///
/// Setting a bit lowers letters and leaves the hyphen; of the other bytes only a carriage return would become one of
/// those, and no name holds it.
#[inline(always)]
const fn key(name: &[u8]) -> (u64, u64) {
    const LOWER: u64 = 0x2020_2020_2020_2020;
    let length = name.len();
    match length {
        0 | 1 => (0, 0),
        2 | 3 => {
            let word = u32::from_le_bytes([name[0], name[1], name[length - 1], 0]);
            (word as u64 | LOWER, 0)
        }
        4..=7 => (word4(name, 0) | LOWER, word4(name, length - 4) | LOWER),
        _ => (word8(name, 0) | LOWER, word8(name, length - 8) | LOWER),
    }
}

#[inline(always)]
const fn word4(name: &[u8], at: usize) -> u64 {
    let bytes = name.split_at(at).1;
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as u64
}

#[inline(always)]
const fn word8(name: &[u8], at: usize) -> u64 {
    let bytes = name.split_at(at).1;
    u64::from_le_bytes([
        bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7],
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_long_form_is_known_in_any_case_and_numbered_as_listed() {
        for (index, name) in Name::ALL.into_iter().enumerate() {
            assert_eq!(name as usize, index);
            assert_eq!(Name::of(name.as_str().as_bytes()), Some(name));
            assert_eq!(
                Name::of(name.as_str().to_uppercase().as_bytes()),
                Some(name)
            );
            assert_eq!(
                Name::of(name.as_str().to_lowercase().as_bytes()),
                Some(name)
            );
        }
    }

    //= RFC 3261 7.3.3 type=test
    #[test]
    fn compact_forms_mean_the_long_ones() {
        for (letter, name) in [
            ("v", Name::Via),
            ("f", Name::From),
            ("t", Name::To),
            ("i", Name::CallId),
            ("m", Name::Contact),
            ("l", Name::ContentLength),
            ("c", Name::ContentType),
            ("e", Name::ContentEncoding),
            ("k", Name::Supported),
            ("o", Name::Event),
            ("u", Name::AllowEvents),
        ] {
            assert_eq!(Name::of(letter.as_bytes()), Some(name));
            assert_eq!(Name::of(letter.to_uppercase().as_bytes()), Some(name));
        }
        assert_eq!(Name::of(b"s"), None, "Subject concerns nobody here");
        assert_eq!(Name::of(b""), None);
        assert_eq!(Name::of(b"Viaa"), None);
        assert_eq!(Name::of(b"Subscription-Stale"), None);
        assert_eq!(
            Name::of(b"Proxy-Butherization"),
            None,
            "the middle counts too"
        );
        assert_eq!(Name::of(b"Call_ID"), None);
    }
}
