//! What send entries point at: addresses and message headers that stay put until the kernel has read them.
//! It builds entries; it does not push them.

use core::ptr;

use io_uring::opcode;
use io_uring::squeue::{Entry, Flags};
use io_uring::types::Fixed;

use super::address::{Name, Source};
use crate::shard::effects::Send;

/// One record for each place of the submission queue: free again as soon as the kernel has consumed
/// the entry in that place, since a send that may not wait is over when it is consumed.
pub struct Outgoing {
    names: Box<[Name]>,
    messages: Box<[Message]>,
}

impl Outgoing {
    /// For a submission queue of `entries` places.
    pub fn new(entries: u32) -> Outgoing {
        Outgoing {
            names: (0..entries).map(|_| Name::EMPTY).collect(),
            messages: (0..entries).map(|_| Message::EMPTY).collect(),
        }
    }

    /// The entry for one datagram, which will stand in `place`. Only a failure completes visibly.
    /// The entry points at `bytes` and into this; both must stay until it has been consumed.
    pub fn entry(&mut self, place: u32, file: Fixed, send: &Send, bytes: &[u8]) -> Entry {
        let place = place as usize;
        let name = &mut self.names[place];
        let name_length = name.set(send.peer);
        let entry = match send.source {
            None => opcode::Send::new(file, bytes.as_ptr(), bytes.len() as u32)
                .flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
                .dest_addr(ptr::from_ref(name).cast())
                .dest_addr_len(name_length)
                .build(),
            Some(source) => {
                let scope = match send.peer {
                    core::net::SocketAddr::V4(_) => 0,
                    core::net::SocketAddr::V6(peer) => peer.scope_id(),
                };
                let message = &mut self.messages[place];
                message.control_length = message.control.set(source, scope);
                message.point_at(name, name_length, bytes);
                opcode::SendMsg::new(file, &raw const message.header)
                    .flags((libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as u32)
                    .build()
            }
        };
        entry.flags(Flags::SKIP_SUCCESS).user_data(send.tag.0)
    }
}

/// A message header with everything that it points at, except for the datagram and the peer.
struct Message {
    header: libc::msghdr,
    iovec: libc::iovec,
    control: Source,
    control_length: usize,
}

impl Message {
    const EMPTY: Message = Message {
        // SAFETY: a struct of integers and pointers, for which zero is a value.
        header: unsafe { core::mem::zeroed() },
        iovec: libc::iovec {
            iov_base: ptr::null_mut(),
            iov_len: 0,
        },
        control: Source::EMPTY,
        control_length: 0,
    };

    fn point_at(&mut self, name: &mut Name, name_length: libc::socklen_t, bytes: &[u8]) {
        self.iovec.iov_base = bytes.as_ptr().cast_mut().cast();
        self.iovec.iov_len = bytes.len();
        self.header.msg_name = ptr::from_mut(name).cast();
        self.header.msg_namelen = name_length;
        self.header.msg_iov = &raw mut self.iovec;
        self.header.msg_iovlen = 1;
        self.header.msg_control = (&raw mut self.control).cast();
        self.header.msg_controllen = self.control_length as _;
    }
}
