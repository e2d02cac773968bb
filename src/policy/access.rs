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
enum Pattern {
    Everything,
    Exact(Box<str>),
    /// `*` and then no wildcard: most of them are `*@example.com`.
    Ending(Box<str>),
    Wild(Box<str>),
}

impl Pattern {
    fn new(text: &str, domains: &Domains) -> Result<Pattern, Fault> {
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

    fn matches(&self, name: &str) -> bool {
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
