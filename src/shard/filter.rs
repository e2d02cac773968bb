//! Which subscriptions a question means: `expiry=0`, `resource=10* state=active`.
//! It looks at one borrowed subscription at a time and builds nothing.

use core::cmp::Ordering;
use core::fmt;
use core::net::SocketAddr;

/// One subscription as it lies in its shard, lent for a look.
#[derive(Clone, Copy, Debug)]
pub struct SubscriptionView<'a> {
    /// The watcher's address-of-record, `user@host`.
    pub watcher: &'a str,
    pub resource: &'a str,
    pub package: &'a str,
    /// `active`, `silent`, `probed`, `parked` or `terminated`.
    pub state: &'static str,
    pub expires_in_seconds: u64,
    pub peer: SocketAddr,
    /// Of the last NOTIFY.
    pub cseq: u32,
    /// Of the last document.
    pub version: u32,
    /// A newer state is owed to the watcher.
    pub dirty: bool,
    /// A NOTIFY is waiting for its answer.
    pub in_flight: bool,
    pub call_id: &'a str,
}

/// Conditions that must all hold; none holds for everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionFilter {
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Condition {
    field: Field,
    relation: Relation,
    value: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Watcher,
    Resource,
    Package,
    State,
    Expiry,
    Peer,
    Cseq,
    Version,
    Dirty,
    InFlight,
    CallId,
}

const FIELDS: [(&str, Field); 11] = [
    ("watcher", Field::Watcher),
    ("resource", Field::Resource),
    ("package", Field::Package),
    ("state", Field::State),
    ("expiry", Field::Expiry),
    ("peer", Field::Peer),
    ("cseq", Field::Cseq),
    ("version", Field::Version),
    ("dirty", Field::Dirty),
    ("in_flight", Field::InFlight),
    ("call_id", Field::CallId),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    More,
    MoreOrEqual,
}

/// Longer signs first: `<=` is not `<` followed by `=`.
const RELATIONS: [(&str, Relation); 6] = [
    ("!=", Relation::Unequal),
    ("<=", Relation::LessOrEqual),
    (">=", Relation::MoreOrEqual),
    ("=", Relation::Equal),
    ("<", Relation::Less),
    (">", Relation::More),
];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Number(u64),
    Flag(bool),
    Text(Box<str>),
}

/// What is wrong with a filter, as a sentence for the person who wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterError(String);

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl SubscriptionFilter {
    /// Reads conditions separated by spaces or commas, each `field=value` with one of `= != < <= > >=`.
    /// A text value may hold `*`; without one it means the whole text, or the part before its `@`.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let conditions = text
            .split([' ', ','])
            .filter(|part| !part.is_empty())
            .map(parse_condition)
            .collect::<Result<_, _>>()?;
        Ok(SubscriptionFilter { conditions })
    }

    /// Whether every condition holds.
    pub fn matches(&self, view: &SubscriptionView<'_>) -> bool {
        self.conditions
            .iter()
            .all(|condition| condition.holds(view))
    }
}

fn parse_condition(part: &str) -> Result<Condition, FilterError> {
    let Some(at) = part.find(['=', '<', '>', '!']) else {
        return Err(FilterError(format!(
            "`{part}` has no comparison: write for example `expiry=0`"
        )));
    };
    let (name, rest) = part.split_at(at);
    let Some((sign, relation)) = RELATIONS.iter().find(|(sign, _)| rest.starts_with(sign)) else {
        return Err(FilterError(format!(
            "`{part}`: comparisons are = != < <= > >="
        )));
    };
    let Some((_, field)) = FIELDS.iter().find(|(known, _)| *known == name) else {
        let known: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
        return Err(FilterError(format!(
            "`{name}` is no field of a subscription: the fields are {}",
            known.join(", ")
        )));
    };
    let value = parse_value(*field, name, &rest[sign.len()..])?;
    let ordered = !matches!(relation, Relation::Equal | Relation::Unequal);
    if ordered && !matches!(value, Value::Number(_)) {
        return Err(FilterError(format!(
            "`{name}` can be compared with = and != only"
        )));
    }
    Ok(Condition {
        field: *field,
        relation: *relation,
        value,
    })
}

fn parse_value(field: Field, name: &str, text: &str) -> Result<Value, FilterError> {
    match field {
        Field::Expiry | Field::Cseq | Field::Version => text
            .parse()
            .map(Value::Number)
            .map_err(|_| FilterError(format!("`{name}` is a number, not `{text}`"))),
        Field::Dirty | Field::InFlight => match text {
            "true" | "yes" | "1" => Ok(Value::Flag(true)),
            "false" | "no" | "0" => Ok(Value::Flag(false)),
            _ => Err(FilterError(format!(
                "`{name}` is true or false, not `{text}`"
            ))),
        },
        Field::Watcher
        | Field::Resource
        | Field::Package
        | Field::State
        | Field::Peer
        | Field::CallId => Ok(Value::Text(text.into())),
    }
}

impl Condition {
    fn holds(&self, view: &SubscriptionView<'_>) -> bool {
        match self.field {
            Field::Watcher => self.text_holds(view.watcher),
            Field::Resource => self.text_holds(view.resource),
            Field::Package => self.text_holds(view.package),
            Field::State => self.text_holds(view.state),
            Field::CallId => self.text_holds(view.call_id),
            Field::Peer => self.peer_holds(view.peer),
            Field::Expiry => self.number_holds(view.expires_in_seconds),
            Field::Cseq => self.number_holds(u64::from(view.cseq)),
            Field::Version => self.number_holds(u64::from(view.version)),
            Field::Dirty => self.flag_holds(view.dirty),
            Field::InFlight => self.flag_holds(view.in_flight),
        }
    }

    fn text_holds(&self, actual: &str) -> bool {
        let Value::Text(wanted) = &self.value else {
            unreachable!("the parser gives a text field a text");
        };
        let user = actual.split_once('@').map(|(user, _)| user);
        let equal = glob(wanted, actual) || user.is_some_and(|user| glob(wanted, user));
        equal == (self.relation == Relation::Equal)
    }

    /// An address matches with its port or without.
    fn peer_holds(&self, actual: SocketAddr) -> bool {
        let Value::Text(wanted) = &self.value else {
            unreachable!("the parser gives the peer a text");
        };
        let equal = glob(wanted, &actual.to_string()) || glob(wanted, &actual.ip().to_string());
        equal == (self.relation == Relation::Equal)
    }

    fn number_holds(&self, actual: u64) -> bool {
        let Value::Number(wanted) = self.value else {
            unreachable!("the parser gives a number field a number");
        };
        let order = actual.cmp(&wanted);
        match self.relation {
            Relation::Equal => order == Ordering::Equal,
            Relation::Unequal => order != Ordering::Equal,
            Relation::Less => order == Ordering::Less,
            Relation::LessOrEqual => order != Ordering::Greater,
            Relation::More => order == Ordering::Greater,
            Relation::MoreOrEqual => order != Ordering::Less,
        }
    }

    fn flag_holds(&self, actual: bool) -> bool {
        let Value::Flag(wanted) = self.value else {
            unreachable!("the parser gives a flag field a flag");
        };
        (actual == wanted) == (self.relation == Relation::Equal)
    }
}

/// Whether `text` is `pattern`, in which `*` stands for any run of characters; case does not matter.
/// Goes back to the last star only, so its work is bounded by the product of the two lengths.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if p < pattern.len() && pattern[p] == b'*' {
            star = Some((p, t));
            p += 1;
        } else if p < pattern.len() && pattern[p].eq_ignore_ascii_case(&text[t]) {
            p += 1;
            t += 1;
        } else if let Some((after, from)) = star {
            star = Some((after, from + 1));
            p = after + 1;
            t = from + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> SubscriptionView<'static> {
        SubscriptionView {
            watcher: "100@example.com",
            resource: "1001@example.com",
            package: "dialog",
            state: "active",
            expires_in_seconds: 0,
            peer: "192.0.2.7:5060".parse().expect("an address"),
            cseq: 12,
            version: 7,
            dirty: false,
            in_flight: true,
            call_id: "a@b",
        }
    }

    fn matches(text: &str) -> bool {
        SubscriptionFilter::parse(text)
            .expect("a filter")
            .matches(&view())
    }

    #[test]
    fn every_condition_must_hold() {
        assert!(matches(""));
        assert!(matches("expiry=0"));
        assert!(matches("expiry=0 state=active,package=dialog"));
        assert!(!matches("expiry=0 state=pending"));
        assert!(matches(
            "expiry<60 cseq>=12 version!=8 in_flight=true dirty=no"
        ));
        assert!(!matches("cseq>12"));
    }

    #[test]
    fn texts_match_whole_by_user_or_by_star_and_never_by_a_part() {
        assert!(matches("resource=1001"));
        assert!(matches("resource=1001@EXAMPLE.com"));
        assert!(matches("resource=10*"));
        assert!(matches("call_id=*@B"));
        assert!(!matches("resource=100"));
        assert!(matches("watcher!=1001"));
        assert!(matches("peer=192.0.2.7"));
        assert!(matches("peer=192.0.2.7:5060"));
        assert!(!matches("peer=192.0.2.70"));
    }

    #[test]
    fn a_wrong_filter_is_explained() {
        for (text, part) in [
            ("expires=0", "is no field"),
            ("expiry=soon", "is a number"),
            ("dirty=maybe", "true or false"),
            ("expiry", "no comparison"),
            ("state<active", "= and != only"),
            ("state!active", "comparisons are"),
        ] {
            let error = SubscriptionFilter::parse(text).expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
