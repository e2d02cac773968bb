//! `show`: lists of a running server, as a table for people or line by line for programs.

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde_json::Value;

use super::client::{Client, escape};
use super::{Failure, print};

/// Rows that are asked for at once.
const PAGE: u32 = 1000;

/// Who watches what.
pub fn subscriptions(client: &Client, like: Option<&str>, json: bool) -> Result<(), Failure> {
    let like = like.map_or(String::new(), |like| format!("&like={}", escape(like)));
    let path = format!("/v1/subscriptions?limit={PAGE}{like}");
    if json {
        return each(client, &path, "subscriptions", |row| {
            print(&row.to_string())
        });
    }
    let mut table = table(&[
        "WATCHER",
        "RESOURCE",
        "PACKAGE",
        "STATE",
        "EXPIRY",
        "PEER",
        "CSEQ",
        "VERSION",
        "OWED",
        "IN FLIGHT",
    ]);
    each(client, &path, "subscriptions", |row| {
        let mark = |member: &str| if row[member] == true { "yes" } else { "" }.to_owned();
        table.add_row(vec![
            cell(&row["watcher"]),
            cell(&row["resource"]),
            cell(&row["package"]),
            cell(&row["state"]),
            cell(&row["expiry"]),
            cell(&row["peer"]),
            cell(&row["cseq"]),
            cell(&row["version"]),
            mark("dirty"),
            mark("in_flight"),
        ]);
        Ok(())
    })?;
    finish(&table)
}

/// What is known of each resource.
pub fn hints(client: &Client, json: bool) -> Result<(), Failure> {
    let path = format!("/v1/hints?limit={PAGE}");
    if json {
        return each(client, &path, "hints", |row| print(&row.to_string()));
    }
    let mut table = table(&[
        "RESOURCE",
        "LAMP",
        "SOURCES",
        "PUBLICATIONS",
        "WATCHING SHARDS",
    ]);
    each(client, &path, "hints", |row| {
        let sources: Vec<String> = row["sources"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|source| format!("{}={}", cell(&source["source"]), cell(&source["state"])))
            .collect();
        table.add_row(vec![
            cell(&row["resource"]),
            cell(&row["lamp"]),
            sources.join(" "),
            cell(&row["publications"]),
            cell(&row["watching_shards"]),
        ]);
        Ok(())
    })?;
    finish(&table)
}

/// What is listened on, of every generation.
pub fn transports(client: &Client, json: bool) -> Result<(), Failure> {
    let path = "/v1/transports";
    if json {
        return each(client, path, "listeners", |row| print(&row.to_string()));
    }
    let mut table = table(&[
        "LISTENER",
        "ADDRESS",
        "GENERATION",
        "STATE",
        "AGE",
        "CLOSES IN",
        "GOES TO",
        "NOTIFYS",
        "ANSWERS",
        "DIALOGS",
    ]);
    let seconds = |value: &Value| match value.as_f64() {
        Some(seconds) => format!("{seconds:.1}s"),
        None => "-".to_owned(),
    };
    each(client, path, "listeners", |row| {
        table.add_row(vec![
            cell(&row["listener"]),
            cell(&row["address"]),
            cell(&row["generation"]),
            cell(&row["state"]),
            seconds(&row["age_seconds"]),
            seconds(&row["closes_in_seconds"]),
            cell(&row["goes_to"]),
            cell(&row["client_transactions"]),
            cell(&row["server_transactions"]),
            cell(&row["dialogs"]),
        ]);
        Ok(())
    })?;
    finish(&table)
}

/// Page after page, row after row.
fn each(
    client: &Client,
    path: &str,
    list: &str,
    mut row: impl FnMut(&Value) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut cursor = String::new();
    loop {
        let page = client.get(&format!("{path}{cursor}"))?;
        for each in page[list].as_array().into_iter().flatten() {
            row(each)?;
        }
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={}", escape(next)),
            None => return Ok(()),
        }
    }
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(header.to_vec());
    table
}

fn finish(table: &Table) -> Result<(), Failure> {
    print(&table.trim_fmt())?;
    let count = table.row_iter().count();
    if count == 0 {
        eprintln!("none");
    }
    Ok(())
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}
