//! Values as bytes: numbers with the low byte first, texts and lists behind their length.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use super::Fault;

/// What has not been read of a value.
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// From the beginning.
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    /// So many bytes.
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Fault::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Bytes behind their length.
    pub fn bytes(&mut self) -> Result<&'a [u8], Fault> {
        let length = self.length()?;
        self.take(length)
    }

    /// Text behind its length.
    pub fn text(&mut self) -> Result<&'a str, Fault> {
        core::str::from_utf8(self.bytes()?).map_err(|_| Fault::Value("text"))
    }

    /// A length: seven bits in each byte, the lowest first, the highest bit says that more follow.
    pub fn length(&mut self) -> Result<usize, Fault> {
        let mut length = 0_u32;
        for place in 0..5 {
            let byte = u32::from(self.take(1)?[0]);
            if place == 4 && byte > 0x0f {
                break;
            }
            length |= (byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                return Ok(length as usize);
            }
        }
        Err(Fault::Value("length"))
    }

    /// Everything has been read.
    pub fn end(&self) -> Result<(), Fault> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Fault::Long)
        }
    }
}

/// Writes a length as [`Reader::length`] reads it.
pub fn put_length(length: usize, out: &mut Vec<u8>) {
    let mut rest = length as u32;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Writes bytes behind their length.
pub fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_length(bytes.len(), out);
    out.extend_from_slice(bytes);
}

/// What can be written and read back.
pub trait Code: Sized {
    fn put(&self, out: &mut Vec<u8>);
    fn get(from: &mut Reader<'_>) -> Result<Self, Fault>;
}

macro_rules! numbers {
    ($($number:ty)*) => { $(
        impl Code for $number {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }

            fn get(from: &mut Reader<'_>) -> Result<Self, Fault> {
                let bytes = from.take(size_of::<$number>())?;
                Ok(<$number>::from_le_bytes(bytes.try_into().map_err(|_| Fault::Short)?))
            }
        }
    )* };
}

numbers! { u8 u16 u32 u64 }

/// An enum without data, each variant with its number in records.
macro_rules! numbered {
    ($name:ident { $($variant:ident = $number:literal)* }) => {
        impl $crate::store::format::code::Code for $name {
            fn put(&self, out: &mut Vec<u8>) {
                out.push(match self { $($name::$variant => $number,)* });
            }

            fn get(from: &mut $crate::store::format::code::Reader<'_>) -> Result<Self, $crate::store::format::Fault> {
                match from.take(1)?[0] {
                    $($number => Ok($name::$variant),)*
                    _ => Err($crate::store::format::Fault::Value(stringify!($name))),
                }
            }
        }
    };
}
pub(super) use numbered;

/// A struct, field by field in the order given.
macro_rules! fields {
    ($name:ident { $($field:ident)* }) => {
        impl $crate::store::format::code::Code for $name {
            fn put(&self, out: &mut Vec<u8>) {
                let $name { $($field),* } = self;
                $($crate::store::format::code::Code::put($field, out);)*
            }

            fn get(from: &mut $crate::store::format::code::Reader<'_>) -> Result<Self, $crate::store::format::Fault> {
                Ok($name { $($field: $crate::store::format::code::Code::get(from)?),* })
            }
        }
    };
}
pub(super) use fields;

impl Code for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn get(from: &mut Reader<'_>) -> Result<Self, Fault> {
        match from.take(1)?[0] {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Fault::Value("bool")),
        }
    }
}

impl Code for Box<str> {
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(self.as_bytes(), out);
    }

    fn get(from: &mut Reader<'_>) -> Result<Self, Fault> {
        from.text().map(Box::from)
    }
}

impl<T: Code> Code for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }

    fn get(from: &mut Reader<'_>) -> Result<Self, Fault> {
        Ok(if bool::get(from)? {
            Some(T::get(from)?)
        } else {
            None
        })
    }
}

impl<T: Code + Copy + Default, const N: usize> Code for [T; N] {
    fn put(&self, out: &mut Vec<u8>) {
        for value in self {
            value.put(out);
        }
    }

    fn get(from: &mut Reader<'_>) -> Result<Self, Fault> {
        let mut values = [T::default(); N];
        for value in &mut values {
            *value = T::get(from)?;
        }
        Ok(values)
    }
}

impl<A: Code, B: Code> Code for (A, B) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }

    fn get(from: &mut Reader<'_>) -> Result<Self, Fault> {
        Ok((A::get(from)?, B::get(from)?))
    }
}

impl<T: Code> Code for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        put_length(self.len(), out);
        for value in self {
            value.put(out);
        }
    }

    /// Memory grows with what is really there, whatever the length claims.
    fn get(from: &mut Reader<'_>) -> Result<Self, Fault> {
        let length = from.length()?;
        let mut values = Vec::new();
        for _ in 0..length {
            values.push(T::get(from)?);
        }
        Ok(values)
    }
}

impl Code for IpAddr {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            IpAddr::V4(address) => {
                out.push(4);
                out.extend_from_slice(&address.octets());
            }
            IpAddr::V6(address) => {
                out.push(6);
                out.extend_from_slice(&address.octets());
            }
        }
    }

    fn get(from: &mut Reader<'_>) -> Result<Self, Fault> {
        match from.take(1)?[0] {
            4 => Ok(Ipv4Addr::from(u32::from_be_bytes(octets(from)?)).into()),
            6 => Ok(Ipv6Addr::from(octets::<16>(from)?).into()),
            _ => Err(Fault::Value("address")),
        }
    }
}

fn octets<const N: usize>(from: &mut Reader<'_>) -> Result<[u8; N], Fault> {
    from.take(N)?.try_into().map_err(|_| Fault::Short)
}

impl Code for SocketAddr {
    fn put(&self, out: &mut Vec<u8>) {
        self.ip().put(out);
        self.port().put(out);
        if let SocketAddr::V6(address) = self {
            address.scope_id().put(out);
        }
    }

    fn get(from: &mut Reader<'_>) -> Result<Self, Fault> {
        let address = IpAddr::get(from)?;
        let port = u16::get(from)?;
        Ok(match address {
            IpAddr::V4(address) => (address, port).into(),
            IpAddr::V6(address) => SocketAddrV6::new(address, port, 0, u32::get(from)?).into(),
        })
    }
}
