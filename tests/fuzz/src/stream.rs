//! The bytes of a connection: what is found in them is the same however they are cut, nothing of it is invented, and no
//! more is kept than one message has.

use lampfield::config::limits;
use lampfield::transport::stream::{Broken, Found, Framer};

use crate::is_inside;

/// What was found, and where its bytes ended in all that came.
#[derive(Debug, PartialEq, Eq)]
enum Kept {
    Message(Vec<u8>),
    Ping,
    Broken(Vec<u8>, Broken),
}

/// The input, several times over as one stream: once whole, and once in pieces that it chooses itself.
pub fn stream(data: &[u8]) {
    let stream = [data, b"\r\n\r\n", data, data].concat();
    let whole = read(core::iter::once(&stream[..]));
    let sizes = data.iter().map(|&byte| usize::from(byte % 23) + 1);
    let mut sizes = sizes.chain(core::iter::repeat(7));
    let mut rest = &stream[..];
    let pieces = core::iter::from_fn(|| {
        let size = sizes.next().expect("endless").min(rest.len());
        let (piece, after) = rest.split_at(size);
        rest = after;
        (!piece.is_empty()).then_some(piece)
    });
    assert_eq!(read(pieces), whole, "cut in another way");
    let bytes: usize = whole.iter().map(Kept::length).sum();
    assert!(bytes <= stream.len(), "more was found than came");
}

fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<Kept> {
    let (mut framer, mut kept) = (Framer::default(), Vec::new());
    for piece in pieces {
        let mut left = piece;
        while let Some(found) = framer.next(&mut left) {
            kept.push(match found {
                Found::Message(bytes) => {
                    let most = limits::HEADER_BYTES + limits::STREAM_BODY_BYTES;
                    assert!(!bytes.is_empty() && bytes.len() <= most);
                    Kept::Message(bytes.to_vec())
                }
                Found::Ping => Kept::Ping,
                Found::Broken { head, why } => {
                    assert!(head.len() <= limits::HEADER_BYTES.max(piece.len()));
                    Kept::Broken(head.to_vec(), why)
                }
            });
            assert!(
                left.is_empty() || is_inside(left, piece),
                "what is left is what came"
            );
        }
        assert!(left.is_empty(), "everything is taken in");
    }
    let broken = kept.iter().filter(|one| matches!(one, Kept::Broken(..)));
    assert!(broken.count() <= 1, "a stream breaks once");
    kept
}

impl Kept {
    fn length(&self) -> usize {
        match self {
            Kept::Message(bytes) | Kept::Broken(bytes, _) => bytes.len(),
            Kept::Ping => 0,
        }
    }
}
