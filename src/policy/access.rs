//! Who may watch and who may publish what: rules over canonical names, the first that fits decides.

use super::domains::{Domains, host_in};
use super::key::Key;
use super::{Fault, NotFound};
use crate::config::limits;

/// What somebody wants of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// SUBSCRIBE.
    Watch,
    /// PUBLISH.
    Publish,
}

/// What happens where no rule fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Otherwise {
    /// Allowed where the identity's domain is the resource's.
    SameDomain,
    /// Allowed for one's own resource only.
    Own,
    Allow,
    Deny,
}

/// One rule of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleSettings {
    /// None: both.
    pub action: Option<Action>,
    /// `*`, `*@example.com`, `1???@*`, `alice@example.com`; a bare `1001` is of the default domain.
    pub identity: String,
    /// The same, or `self`: the resource whose name is the identity's.
    pub resource: String,
    pub allow: bool,
}

/// `[access]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessSettings {
    pub rules: Vec<RuleSettings>,
    pub watch: Otherwise,
    pub publish: Otherwise,
}

impl Default for AccessSettings {
    fn default() -> Self {
        AccessSettings {
            rules: Vec::new(),
            watch: Otherwise::SameDomain,
            publish: Otherwise::SameDomain,
        }
    }
}

/// The rules, ready to be asked.
#[derive(Clone, Debug)]
pub struct Access {
    rules: Vec<Rule>,
    watch: Otherwise,
    publish: Otherwise,
}

#[derive(Clone, Debug)]
struct Rule {
    action: Option<Action>,
    identity: Pattern,
    /// None: the identity's own.
    resource: Option<Pattern>,
    allow: bool,
}

impl Access {
    /// Reads the patterns.
    pub fn new(settings: &AccessSettings, domains: &Domains) -> Result<Access, Fault> {
        if settings.rules.len() > limits::POLICY_RULES_MAX {
            return Err(Fault::new(
                &settings.rules.len().to_string(),
                format!("at most {} rules", limits::POLICY_RULES_MAX),
            )
            .at("access.rules"));
        }
        let mut rules = Vec::with_capacity(settings.rules.len());
        for (index, rule) in settings.rules.iter().enumerate() {
            let at = |field: &str| format!("access.rules[{index}].{field}");
            let identity =
                Pattern::new(&rule.identity, domains).map_err(|fault| fault.at(&at("identity")))?;
            let resource = match rule.resource.as_str() {
                "self" => None,
                text => Some(resource_pattern(text, domains).map_err(|f| f.at(&at("resource")))?),
            };
            rules.push(Rule {
                action: rule.action,
                identity,
                resource,
                allow: rule.allow,
            });
        }
        Ok(Access {
            rules,
            watch: settings.watch,
            publish: settings.publish,
        })
    }

    /// Whether `identity`, a canonical name, may do this to `resource`. What may not be done is answered 403.
    //= RFC 6665 4.2.1.3
    pub fn permits(&self, action: Action, identity: &str, resource: &Key) -> bool {
        let name = resource.as_str();
        for rule in &self.rules {
            if rule.action.is_none_or(|only| only == action)
                && rule.identity.matches(identity)
                && match &rule.resource {
                    Some(pattern) => pattern.matches(name),
                    None => identity == name,
                }
            {
                return rule.allow;
            }
        }
        let otherwise = match action {
            Action::Watch => self.watch,
            Action::Publish => self.publish,
        };
        match otherwise {
            Otherwise::Allow => true,
            Otherwise::Deny => false,
            Otherwise::Own => identity == name,
            Otherwise::SameDomain => domain_of(identity) == resource.domain(),
        }
    }
}

/// A user part holds no `@`, so the last one is the one that counts.
fn domain_of(identity: &str) -> &[u8] {
    identity
        .rsplit_once('@')
        .map_or(b"", |(_, domain)| domain.as_bytes())
}

/// A pattern for resources must be able to name one.
fn resource_pattern(text: &str, domains: &Domains) -> Result<Pattern, Fault> {
    if let Some((_, host)) = text.rsplit_once('@')
        && !is_wild(host)
        && host_in(host).is_none_or(|host| domains.domain(&host).is_none())
    {
        return Err(Fault::new(
            text,
            format!(
                "a host that [domains] knows, such as \"*@{}\"",
                domains.default_domain()
            ),
        ));
    }
    Pattern::new(text, domains)
}

/// A pattern over canonical names: `*` stands for any run of bytes, `?` for one byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pattern {
    Everything,
    Exact(Box<str>),
    /// `*` and then no wildcard: most of them are `*@example.com`.
    Ending(Box<str>),
    Wild(Box<str>),
}

impl Pattern {
    pub(super) fn new(text: &str, domains: &Domains) -> Result<Pattern, Fault> {
        if text == "*" || text == "*@*" {
            return Ok(Pattern::Everything);
        }
        if text.is_empty() || text.len() > limits::POLICY_PATTERN_BYTES || text.contains(' ') {
            return Err(Fault::new(
                text,
                "a name or a pattern, such as \"1001\", \"1???@*\" or \"*@example.com\"",
            ));
        }
        let text = text.strip_prefix("sip:").unwrap_or(text);
        if !is_wild(text) {
            return match exact(text, domains) {
                Ok(key) => Ok(Pattern::Exact(key.as_str().into())),
                Err(_) => Err(Fault::new(
                    text,
                    "a user and a host, such as \"1001@example.com\"",
                )),
            };
        }
        let (user, host) = match text.rsplit_once('@') {
            Some((user, host)) if is_wild(host) => (user, host.to_ascii_lowercase()),
            Some((user, host)) => match host_in(host).and_then(|host| domains.domain(&host)) {
                Some(domain) => (user, domain.to_owned()),
                None => (user, host.to_ascii_lowercase()),
            },
            None => (text, domains.default_domain().to_owned()),
        };
        let whole = format!("{user}@{host}");
        Ok(match whole.strip_prefix('*') {
            Some(ending) if !is_wild(ending) => Pattern::Ending(ending.into()),
            Some(_) | None => Pattern::Wild(whole.into()),
        })
    }

    pub(super) fn matches(&self, name: &str) -> bool {
        match self {
            Pattern::Everything => true,
            Pattern::Exact(exact) => **exact == *name,
            Pattern::Ending(ending) => name.ends_with(&**ending),
            Pattern::Wild(pattern) => matches_wild(pattern.as_bytes(), name.as_bytes()),
        }
    }
}

fn is_wild(text: &str) -> bool {
    text.contains(['*', '?'])
}

fn exact(text: &str, domains: &Domains) -> Result<Key, NotFound> {
    match text.rsplit_once('@') {
        Some((user, host)) => {
            let host = host_in(host).ok_or(NotFound::UnknownHost)?;
            domains.address_of_record(user.as_bytes(), &host)
        }
        None => domains.named(text),
    }
}

/// Each `*` tries ever longer runs; only the last one is gone back to, so the work is bounded by the product
/// of the two lengths.
fn matches_wild(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut here) = (0, 0);
    let mut last_star = None;
    while here < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                last_star = Some((at, here));
                at += 1;
            }
            Some(&byte) if byte == b'?' || byte == name[here] => {
                at += 1;
                here += 1;
            }
            Some(_) | None => match last_star {
                Some((star, start)) => {
                    last_star = Some((star, start + 1));
                    at = star + 1;
                    here = start + 1;
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{DomainSettings, DomainsSettings};
    use proptest::prelude::*;

    fn domains() -> Domains {
        let domain = |name: &str, alias: &str| DomainSettings {
            name: name.to_owned(),
            aliases: vec![alias.to_owned()],
        };
        Domains::new(&DomainsSettings {
            default: "example.com".to_owned(),
            domains: vec![
                domain("example.com", "192.0.2.1"),
                domain("other.example", "192.0.2.2"),
            ],
        })
        .unwrap()
    }

    fn rule(action: Option<Action>, identity: &str, resource: &str, allow: bool) -> RuleSettings {
        RuleSettings {
            action,
            identity: identity.to_owned(),
            resource: resource.to_owned(),
            allow,
        }
    }

    fn access(rules: Vec<RuleSettings>) -> Access {
        let settings = AccessSettings {
            rules,
            ..AccessSettings::default()
        };
        Access::new(&settings, &domains()).unwrap()
    }

    fn permits(access: &Access, action: Action, identity: &str, resource: &str) -> bool {
        access.permits(action, identity, &domains().named(resource).unwrap())
    }

    //= RFC 6665 4.2.1.3 type=test
    #[test]
    fn without_rules_everybody_may_in_their_own_domain_and_in_no_other() {
        let access = access(Vec::new());
        for action in [Action::Watch, Action::Publish] {
            assert!(permits(&access, action, "a@example.com", "1001"));
            assert!(!permits(&access, action, "a@other.example", "1001"));
            assert!(!permits(&access, action, "a@elsewhere.example", "1001"));
            assert!(!permits(&access, action, "a@", "1001"));
        }
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let access = access(vec![
            rule(None, "mallory", "*", false),
            rule(Some(Action::Watch), "*@other.example", "1???@*", true),
            rule(
                Some(Action::Publish),
                "pbx@192.0.2.2",
                "*@example.com",
                true,
            ),
            rule(Some(Action::Publish), "*", "self", true),
            rule(Some(Action::Publish), "*", "*", false),
        ]);
        use Action::{Publish, Watch};
        for (action, identity, resource, expected) in [
            (Watch, "mallory@example.com", "1001", false),
            (Watch, "mallory@other.example", "1001", true),
            (Watch, "bob@other.example", "1001", true),
            (Watch, "bob@other.example", "10012", false),
            (Watch, "bob@example.com", "boss", true),
            (Publish, "pbx@other.example", "1001", true),
            (Publish, "pbx@example.com", "1001", false),
            (Publish, "1001@example.com", "1001", true),
            (Publish, "1001@example.com", "1002", false),
        ] {
            assert_eq!(
                permits(&access, action, identity, resource),
                expected,
                "{action:?} {identity} {resource}"
            );
        }
    }

    #[test]
    fn what_no_rule_decides_is_as_configured() {
        for (otherwise, own, other) in [
            (Otherwise::Allow, true, true),
            (Otherwise::Deny, false, false),
            (Otherwise::Own, true, false),
            (Otherwise::SameDomain, true, true),
        ] {
            let settings = AccessSettings {
                rules: Vec::new(),
                watch: otherwise,
                publish: Otherwise::Deny,
            };
            let access = Access::new(&settings, &domains()).unwrap();
            assert_eq!(
                permits(&access, Action::Watch, "1001@example.com", "1001"),
                own
            );
            assert_eq!(
                permits(&access, Action::Watch, "1001@example.com", "1002"),
                other
            );
            assert!(!permits(
                &access,
                Action::Publish,
                "1001@example.com",
                "1001"
            ));
        }
    }

    #[test]
    fn patterns_match_whole_names() {
        let matches =
            |pattern: &str, name: &str| Pattern::new(pattern, &domains()).unwrap().matches(name);
        for (pattern, name, expected) in [
            ("*", "anything@anywhere", true),
            ("1001", "1001@example.com", true),
            ("1001", "1001@other.example", false),
            ("sip:1001@192.0.2.2", "1001@other.example", true),
            ("%31001", "1001@example.com", true),
            ("1*", "1001@example.com", true),
            ("1*", "1001@other.example", false),
            ("*@EXAMPLE.com", "1001@example.com", true),
            ("*@example.com", "1001@not-example.com", false),
            ("*@*.example", "a@other.example", true),
            ("1???@*", "1001@x", true),
            ("1???@*", "101@x", false),
            ("a*b*c@*", "aXbXbXc@d", true),
            ("a*b*c@*", "aXcXb@d", false),
            ("?", "a@example.com", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_wrong_pattern_says_what_to_write_instead() {
        let message = |identity: &str, resource: &str| {
            let settings = AccessSettings {
                rules: vec![rule(None, identity, resource, true)],
                ..AccessSettings::default()
            };
            Access::new(&settings, &domains()).unwrap_err().to_string()
        };
        let text = message("*", "*@nowhere.example");
        assert!(
            text.starts_with("access.rules[0].resource: \"*@nowhere.example\""),
            "{text}"
        );
        assert!(text.contains("*@example.com"), "{text}");
        assert!(message("", "*").starts_with("access.rules[0].identity"));
        assert!(message("a b", "*").contains("1???@*"));
        assert!(message(&"x".repeat(300), "*").contains("pattern"));
    }

    #[test]
    fn a_pattern_of_stars_is_matched_in_bounded_work() {
        let name = "a".repeat(limits::RESOURCE_BYTES);
        let pattern = "*a".repeat(limits::POLICY_PATTERN_BYTES / 2 - 1) + "b";
        assert!(!matches_wild(pattern.as_bytes(), name.as_bytes()));
    }

    /// The obvious definition, exponential in the worst case.
    fn obvious(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern, name) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => (0..=name.len()).any(|taken| obvious(rest, &name[taken..])),
            ([b'?', rest @ ..], [_, after @ ..]) => obvious(rest, after),
            ([byte, rest @ ..], [first, after @ ..]) => byte == first && obvious(rest, after),
            ([_, ..], []) | ([], [_, ..]) => false,
        }
    }

    proptest! {
        #[test]
        fn wildcards_match_what_their_definition_says(pattern in "[ab*?]{0,8}", name in "[ab]{0,10}") {
            prop_assert_eq!(
                matches_wild(pattern.as_bytes(), name.as_bytes()),
                obvious(pattern.as_bytes(), name.as_bytes())
            );
        }
    }
}
