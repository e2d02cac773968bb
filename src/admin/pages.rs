//! Lists over all shards, page by page: where a page ends is said in a cursor that the next request brings back.

use core::fmt;

use crate::admin::ask::Shards;
use crate::admin::problem::Problem;
use crate::config::limits;
use crate::partition::ShardId;
use crate::shard::control::{Answer, Ask, Page};

/// Rows of a page for which no limit was named.
const ROWS: u32 = 100;
/// Questions to shards for one page; a page whose filter fits nothing ends here, and says where to go on.
const QUESTIONS_PER_PAGE: usize = 256;

/// A place in a list over all shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    shard: u16,
    from: Option<u32>,
}

impl Cursor {
    const START: Cursor = Cursor {
        shard: 0,
        from: None,
    };

    /// Reads what an earlier page has said; none is the beginning.
    pub fn parse(text: Option<&str>) -> Result<Cursor, Problem> {
        let Some(text) = text else {
            return Ok(Cursor::START);
        };
        let parsed = text.split_once('.').and_then(|(shard, from)| {
            let from = match from {
                "" => None,
                from => Some(from.parse().ok()?),
            };
            Some(Cursor {
                shard: shard.parse().ok()?,
                from,
            })
        });
        parsed.ok_or_else(|| {
            Problem::invalid("cursor: give back what the page before said as `next`")
        })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.", self.shard)?;
        match self.from {
            Some(from) => write!(f, "{from}"),
            None => Ok(()),
        }
    }
}

/// How many rows a page may have.
pub fn rows_of(limit: Option<u32>) -> Result<u32, Problem> {
    let most = limits::LIST_ROWS_PER_PAGE as u32;
    match limit.unwrap_or(ROWS) {
        limit if (1..=most).contains(&limit) => Ok(limit),
        _ => Err(Problem::invalid(format!(
            "limit: a number from 1 to {most}"
        ))),
    }
}

/// Fills one page from shard after shard. `ask` makes the question, `take` opens the answer.
pub async fn collect<T>(
    shards: &Shards,
    mut cursor: Cursor,
    limit: u32,
    ask: impl Fn(Page) -> Ask,
    take: impl Fn(Answer) -> Result<(Vec<T>, Option<u32>), Problem>,
) -> Result<(Vec<T>, Option<String>), Problem> {
    let mut rows: Vec<T> = Vec::new();
    for _ in 0..QUESTIONS_PER_PAGE {
        if cursor.shard >= shards.count() {
            return Ok((rows, None));
        }
        let room = limit - rows.len() as u32;
        if room == 0 {
            break;
        }
        let page = Page {
            from: cursor.from,
            rows_max: room,
        };
        let answer = shards.ask(ShardId(cursor.shard), ask(page)).await?;
        let (more, next) = take(answer)?;
        rows.extend(more.into_iter().take(room as usize));
        cursor = match next {
            Some(from) => Cursor {
                from: Some(from),
                ..cursor
            },
            None => Cursor {
                shard: cursor.shard + 1,
                from: None,
            },
        };
    }
    let over = cursor.shard >= shards.count();
    Ok((rows, (!over).then(|| cursor.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        for cursor in [
            Cursor::START,
            Cursor {
                shard: 3,
                from: Some(17),
            },
        ] {
            let text = cursor.to_string();
            assert_eq!(Cursor::parse(Some(&text)).expect("a cursor"), cursor);
        }
        for text in ["", "1", "a.b", "1.-1", "99999.1"] {
            assert!(Cursor::parse(Some(text)).is_err(), "{text}");
        }
    }
}
