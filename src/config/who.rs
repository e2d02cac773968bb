//! Who may what: the parts of the file that become the settings of `policy`, and the words for what it refuses.

use core::ops::Range;
use std::path::Path;

use toml::de::DeTable;

use crate::config::file::Written;
use crate::config::problem::{Problem, Problems};
use crate::config::section::{Notes, Placed, Section, TextOrSection};
use crate::config::service::{OF_ONE, read_quota};
use crate::config::settings::Flags;
use crate::partition::Secrets;
use crate::policy::{
    AccessSettings, Action, Algorithm, DigestSettings, DomainSettings, DomainsSettings,
    EdgeSettings, Fault, GateSettings, Otherwise, Overload, Password, Policy, PolicySettings,
    RuleSettings, UserSettings,
};
use crate::quota::Quota;

/// The texts that were read and where they stand, so that a fault found later can be shown.
#[derive(Default)]
struct Places(Vec<(String, Range<usize>)>);

impl Places {
    fn keep(&mut self, text: Placed<&str>) -> String {
        self.0.push((text.value.to_owned(), text.span));
        text.value.to_owned()
    }

    fn keep_all(&mut self, texts: Option<Vec<Placed<&str>>>) -> Vec<String> {
        let texts = texts.unwrap_or_default();
        texts.into_iter().map(|text| self.keep(text)).collect()
    }

    fn of(&self, text: &str) -> Option<Range<usize>> {
        let found = self.0.iter().find(|(known, _)| known == text);
        found.map(|(_, span)| span.clone())
    }
}

/// `[auth]`.
struct Auth {
    realm: Option<String>,
    digest: DigestSettings,
    users: Vec<(String, Option<String>, Password)>,
}

/// Reads the settings. Gate `i` is that of listener `i`.
pub(super) fn read(
    root: &mut Section<'_>,
    path: &Path,
    listeners: &[Written],
    flags: &Flags,
) -> PolicySettings {
    let notes = root.notes();
    let mut places = Places::default();
    let mut trusted = places.keep_all(root.texts("trusted"));
    trusted.extend(flags.trusted.iter().cloned());
    let edges = read_edges(root, &mut places);
    let shared_watchers = places.keep_all(root.texts("shared_watchers"));
    let domains = read_domains(root, &mut places);
    let access = read_access(root, &mut places);
    let auth = read_auth(root, path, &mut places);
    let realm = auth.as_ref().map(|auth| {
        let realm = auth.realm.clone();
        realm.unwrap_or_else(|| domains.default.clone())
    });
    let gates = listeners
        .iter()
        .map(|written| gate(written, realm.as_ref(), &trusted, notes))
        .collect();
    let (digest, users) = auth.map_or_else(Default::default, |auth| (auth.digest, auth.users));
    let users = users
        .into_iter()
        .map(|(user, domain, password)| UserSettings {
            user,
            realm: realm.clone().unwrap_or_default(),
            domain,
            password,
        })
        .collect();
    let settings = PolicySettings {
        domains,
        digest,
        users,
        access,
        edges,
        shared_watchers,
        gates,
    };
    // The secrets play no part in what can be refused.
    if let Err(fault) = Policy::new(&settings, &Secrets::new([0; 32]), None) {
        notes.push(refused(&fault, &places));
    }
    settings
}

fn refused(fault: &Fault, places: &Places) -> Problem {
    let what = format!("\"{}\" cannot be used here", fault.value);
    let problem = match places.of(&fault.value) {
        Some(span) => Problem::at(span, what),
        None if fault.at.is_empty() => Problem::nowhere(what),
        None => Problem::nowhere(format!("{}: {what}", fault.at)),
    };
    problem.help(format!("write {}", fault.instead))
}

/// Who proves a name here, and who is believed without.
fn gate(
    written: &Written,
    realm: Option<&String>,
    trusted: &[String],
    notes: &Notes,
) -> GateSettings {
    let loopback = written.listener.address.ip().is_loopback();
    if written.authenticate == Some(true) && realm.is_none() {
        let span = written.span.clone().unwrap_or(0..0);
        notes.push(
            Problem::at(
                span,
                "this listener authenticates, and there is nobody who could",
            )
            .help("write `[auth]` with a realm, and users below `[auth.users]`"),
        );
    }
    let authenticate = written.authenticate.unwrap_or(!loopback);
    GateSettings {
        realm: realm.filter(|_| authenticate).cloned(),
        trusted: trusted.to_vec(),
        nat: written.listener.nat,
    }
}

/// `edges`, which are treated as most of them want to be, and `[[edge]]`.
fn read_edges(root: &mut Section<'_>, places: &mut Places) -> Vec<EdgeSettings> {
    let notes = root.notes();
    let addresses = places.keep_all(root.texts("edges"));
    let mut edges = Vec::new();
    for Placed {
        value: mut section,
        span,
    } in root.sections("edge")
    {
        let addresses = places.keep_all(section.texts("addresses"));
        let names = places.keep_all(section.texts("names"));
        let overload = section.number("overload", 0..=u64::MAX);
        let mut quota = Quota::default();
        read_quota(&mut section, &OF_ONE, &mut quota);
        section.finish();
        if addresses.is_empty() && names.is_empty() {
            notes.push(
                Problem::at(span.clone(), "this edge has neither an address nor a name")
                    .help("write `addresses = [\"192.0.2.5\"]` below"),
            );
        }
        let overload = match overload {
            None => Overload::default(),
            Some(Placed { value: 500, .. }) => Overload::Request,
            Some(Placed { value: 503, .. }) => Overload::Server,
            Some(Placed { span, .. }) => {
                notes.push(
                    Problem::at(span, "an edge is told 500 or 503")
                        .help("write `overload = 500`, or 503 where it spreads the load"),
                );
                continue;
            }
        };
        edges.push(EdgeSettings {
            addresses,
            names,
            overload,
            quota,
        });
    }
    if !addresses.is_empty() {
        edges.push(EdgeSettings {
            addresses,
            ..EdgeSettings::default()
        });
    }
    edges
}

/// `[domains]`: each domain with its other names; `default_domain` beside it.
fn read_domains(root: &mut Section<'_>, places: &mut Places) -> DomainsSettings {
    let notes = root.notes();
    let default = root.text("default_domain");
    let mut domains = Vec::new();
    if let Some(mut section) = root.section("domains") {
        for (name, aliases) in section.lists() {
            domains.push(DomainSettings {
                name: places.keep(name),
                aliases: places.keep_all(Some(aliases)),
            });
        }
    }
    let default = match (default, domains.as_slice()) {
        (Some(default), _) => places.keep(default),
        (None, []) => DomainsSettings::default().default,
        (None, [only]) => only.name.clone(),
        (None, [first, ..]) => {
            notes.push(
                Problem::nowhere("several domains are listed, and none is the default").help(
                    format!("write `default_domain = \"{}\"` at the top", first.name),
                ),
            );
            first.name.clone()
        }
    };
    DomainsSettings { default, domains }
}

fn read_access(root: &mut Section<'_>, places: &mut Places) -> AccessSettings {
    let mut access = AccessSettings::default();
    let Some(mut section) = root.section("access") else {
        return access;
    };
    let notes = section.notes();
    let words = [
        ("same-domain", Otherwise::SameDomain),
        ("own", Otherwise::Own),
        ("allow", Otherwise::Allow),
        ("deny", Otherwise::Deny),
    ];
    access.watch = section.word("watch", &words).unwrap_or(access.watch);
    access.publish = section.word("publish", &words).unwrap_or(access.publish);
    for Placed {
        value: mut rule,
        span,
    } in section.sections("rule")
    {
        let action = rule.word(
            "action",
            &[
                ("watch", Some(Action::Watch)),
                ("publish", Some(Action::Publish)),
                ("both", None),
            ],
        );
        let identity = rule.text("identity");
        let resource = rule.text("resource");
        let allow = rule.flag("allow");
        rule.finish();
        let Some(allow) = allow else {
            notes.push(
                Problem::at(span, "this rule does not say whether it allows or refuses")
                    .help("write `allow = true` or `allow = false`"),
            );
            continue;
        };
        let everything = || "*".to_owned();
        access.rules.push(RuleSettings {
            action: action.flatten(),
            identity: identity.map_or_else(everything, |text| places.keep(text)),
            resource: resource.map_or_else(everything, |text| places.keep(text)),
            allow,
        });
    }
    section.finish();
    access
}

fn read_auth(root: &mut Section<'_>, path: &Path, places: &mut Places) -> Option<Auth> {
    let mut section = root.section("auth")?;
    let realm = section.text("realm").map(|text| places.keep(text));
    let digest = read_digest(&mut section);
    let mut users = Vec::new();
    if let Some(mut table) = section.section("users") {
        users.extend(read_users(&mut table, places));
    }
    if let Some(file) = section.text("users_file") {
        users.extend(read_users_file(file, path, section.notes()));
    }
    section.finish();
    Some(Auth {
        realm,
        digest,
        users,
    })
}

fn read_digest(section: &mut Section<'_>) -> DigestSettings {
    let notes = section.notes();
    let mut digest = DigestSettings::default();
    if let Some(names) = section.texts("algorithms") {
        digest.algorithms.clear();
        for name in names {
            match name.value {
                "SHA-256" => digest.algorithms.push(Algorithm::Sha256),
                "MD5" => digest.algorithms.push(Algorithm::Md5),
                other => notes.push(
                    Problem::at(
                        name.span,
                        format!("\"{other}\" is no algorithm of this server"),
                    )
                    .help("write \"SHA-256\" or \"MD5\""),
                ),
            }
        }
    }
    if let Some(seconds) = section.number("nonce_life", 10..=86_400) {
        digest.nonce_life_seconds = seconds.value;
    }
    digest.strict_uri = section.flag("strict_uri").unwrap_or(digest.strict_uri);
    digest
}

/// `alice = "secret"`, or `bob = { md5 = "…", sha256 = "…", domain = "…" }`.
fn read_users(
    section: &mut Section<'_>,
    places: &mut Places,
) -> Vec<(String, Option<String>, Password)> {
    let mut users = Vec::new();
    for (name, value) in section.texts_or_sections() {
        let user = places.keep(name);
        match value {
            TextOrSection::Text(password) => {
                users.push((user, None, Password::Plain(password.value.to_owned())))
            }
            TextOrSection::Section(mut table) => {
                let plain = table.text("password");
                let md5 = table.text("md5").map(|text| places.keep(text));
                let sha256 = table.text("sha256").map(|text| places.keep(text));
                let domain = table.text("domain").map(|text| places.keep(text));
                table.finish();
                let password = match plain {
                    Some(plain) => Password::Plain(plain.value.to_owned()),
                    None => Password::Hashed { md5, sha256 },
                };
                users.push((user, domain, password));
            }
        }
    }
    users
}

/// A file that holds nothing but users, so that it can be kept from other eyes. It may stand beside the configuration.
fn read_users_file(
    file: Placed<&str>,
    path: &Path,
    notes: &Notes,
) -> Vec<(String, Option<String>, Password)> {
    let beside = path.parent().unwrap_or(Path::new("")).join(file.value);
    let name = beside.display().to_string();
    let text = match std::fs::read_to_string(&beside) {
        Ok(text) => text,
        Err(error) => {
            notes.push(Problem::at(file.span, format!("{name}: {error}")));
            return Vec::new();
        }
    };
    let inner = Notes::default();
    let (table, errors) = DeTable::parse_recoverable(&text);
    let table = table.into_inner();
    let mut users = Vec::new();
    match errors.first() {
        Some(error) => inner.push(Problem::at(
            error.span().unwrap_or(0..0),
            format!("this is not TOML: {}", error.message()),
        )),
        None => {
            let mut section = Section::new("", &table, &inner);
            users = read_users(&mut section, &mut Places::default());
        }
    }
    let problems = Problems::new(name.clone(), text.clone(), inner.into_list());
    if !problems.is_empty() {
        let what = format!("{name} has mistakes");
        notes.push(Problem::at(file.span, what).help(problems.to_string()));
    }
    users
}
