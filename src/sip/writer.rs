//! Writes a message into bytes that someone else owns. Running out of room is remembered, never a panic.

use core::fmt::Write as _;
use core::net::IpAddr;

use super::lex;
use super::name::Name;

/// Appends to a borrowed buffer.
#[derive(Debug)]
pub struct Writer<'a> {
    buffer: &'a mut [u8],
    length: usize,
    overflowed: bool,
}

impl<'a> Writer<'a> {
    pub fn new(buffer: &'a mut [u8]) -> Self {
        Writer {
            buffer,
            length: 0,
            overflowed: false,
        }
    }

    /// Appends the bytes; what does not fit whole is left out, and `finish` will say so.
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) {
        match self.buffer.get_mut(self.length..self.length + bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.length += bytes.len();
            }
            None => self.overflowed = true,
        }
    }

    /// In decimal digits.
    #[inline]
    pub fn decimal(&mut self, number: impl Into<u64>) {
        self.put(itoa::Buffer::new().format(number.into()).as_bytes());
    }

    /// An address in its usual form, without brackets.
    pub fn address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => {
                let [first, rest @ ..] = address.octets();
                self.decimal(first);
                for octet in rest {
                    self.put(b".");
                    self.decimal(octet);
                }
            }
            IpAddr::V6(address) => {
                let mut text = Text {
                    bytes: [0; 48],
                    length: 0,
                };
                match write!(text, "{address}") {
                    Ok(()) => self.put(&text.bytes[..text.length]),
                    Err(_) => self.overflowed = true,
                }
            }
        }
    }

    /// A header line with its line end.
    pub fn header(&mut self, name: Name, value: &[u8]) {
        self.name(name);
        self.put(value);
        self.line_end();
    }

    /// `Name: `, for a value that follows in pieces.
    pub fn name(&mut self, name: Name) {
        self.put(name.as_str().as_bytes());
        self.put(b": ");
    }

    /// A header line whose value is a number.
    pub fn number(&mut self, name: Name, value: impl Into<u64>) {
        self.name(name);
        self.decimal(value);
        self.line_end();
    }

    /// The end of a line.
    pub fn line_end(&mut self) {
        self.put(b"\r\n");
    }

    /// A raw value with each fold, and each line end that should not be there, as one space.
    pub fn unfolded(&mut self, raw: &[u8]) {
        let mut rest = raw;
        while let Some(fold) = memchr::memchr2(b'\r', b'\n', rest) {
            let before = &rest[..fold];
            let trimmed = before.len() - trailing_space(before);
            self.put(&before[..trimmed]);
            rest = &rest[lex::skip_space(rest, fold)..];
            if !rest.is_empty() {
                self.put(b" ");
            }
        }
        self.put(rest);
    }

    /// How many bytes have been written.
    pub fn len(&self) -> usize {
        self.length
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// What has been written.
    pub fn written(&self) -> &[u8] {
        &self.buffer[..self.length]
    }

    /// Whether something did not fit.
    pub fn overflowed(&self) -> bool {
        self.overflowed
    }

    /// The length, or `None` if something did not fit.
    pub fn finish(self) -> Option<usize> {
        (!self.overflowed).then_some(self.length)
    }
}

fn trailing_space(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .rev()
        .take_while(|&&byte| lex::is_space(byte))
        .count()
}

/// Room for the longest address.
struct Text {
    bytes: [u8; 48],
    length: usize,
}

impl core::fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let room = self
            .bytes
            .get_mut(self.length..self.length + text.len())
            .ok_or(core::fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.length += text.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Writer<'_>)) -> String {
        let mut buffer = [0; 256];
        let mut writer = Writer::new(&mut buffer);
        write(&mut writer);
        let length = writer.finish().expect("fits");
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn numbers_headers_and_addresses_are_written_as_they_read() {
        assert_eq!(
            written(|w| {
                w.header(Name::CallId, b"x");
                w.number(Name::Expires, u32::MAX);
                w.address("2001:db8::1".parse().unwrap());
                w.put(b" ");
                w.address("192.0.2.255".parse().unwrap());
            }),
            "Call-ID: x\r\nExpires: 4294967295\r\n2001:db8::1 192.0.2.255"
        );
    }

    #[test]
    fn folds_become_one_space_and_no_line_end_survives() {
        assert_eq!(written(|w| w.unfolded(b"a \r\n\t b\r\n c")), "a b c");
        assert_eq!(written(|w| w.unfolded(b"a\rb\nc\r\n ")), "a b c");
        assert_eq!(written(|w| w.unfolded(b"plain")), "plain");
    }

    #[test]
    fn what_does_not_fit_is_remembered() {
        let mut buffer = [0; 4];
        let mut writer = Writer::new(&mut buffer);
        writer.put(b"abc");
        writer.put(b"de");
        writer.put(b"f");
        assert_eq!(writer.written(), b"abcf");
        assert!(writer.overflowed());
        assert_eq!(writer.finish(), None);
    }
}
