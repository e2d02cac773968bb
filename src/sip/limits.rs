//! How much of a message is looked at. Work is linear in the bytes; these bound the bytes.

/// Header lines in one message; more are refused with 513.
pub const HEADER_LINES_MAX: usize = 512;
/// Octets from the start line to the empty line; offsets are kept in 16 bits.
pub const HEAD_OCTETS_MAX: usize = u16::MAX as usize;
/// The largest CSeq number that is allowed: below 2^31.
pub const CSEQ_MAX: u32 = (1 << 31) - 1;
