//! Every limit, with its reason. What a limit refuses is counted under its name in `stats`.
//! Plain numbers: nothing here looks at the machine or at a file.

/// The most shards of a process: partitions are spread over them evenly up to here.
pub const SHARDS_MAX: usize = 256;

// What one shard remembers. Overload refuses new work and keeps old.

/// Outcome: 503. At 640 bytes each this is 1.3 GB, more than one core can refresh every hour with room to spare.
pub const SUBSCRIPTIONS_PER_SHARD: usize = 2_000_000;
/// Outcome: the subscription stays dirty and is tried again. Each NOTIFY in flight holds one, and one send slot.
pub const CLIENT_TRANSACTIONS_PER_SHARD: usize = 131_072;
/// Outcome: a request is handled, its retransmission handled again. 10,000 requests/s for 32 s, and room for a storm.
pub const SERVER_TRANSACTIONS_PER_SHARD: usize = 524_288;
/// Outcome: 503. One for every tenth subscription.
pub const PUBLICATIONS_PER_SHARD: usize = 200_000;
/// Outcome: 503, and 507 in HTTP. Resources with a state, or with a watcher on this shard.
pub const RESOURCES_PER_SHARD: usize = 1_000_000;
/// Outcome: a tail is rendered again. Document tails that are kept; those that are told at one time are few.
pub const TAILS_PER_SHARD: usize = 1_024;
/// Outcome: the oldest window goes, and its phone is told `stale=true`. One for each phone that authenticates.
pub const NONCE_WINDOWS_PER_SHARD: usize = 262_144;
/// Outcome: an older count is told `stale=true`. The widest reordering of requests of one phone that is taken.
pub const NONCE_WINDOW_WIDTH: u32 = 64;
/// A nonce older than this is told `stale=true`: long enough that a phone is challenged once per refresh at most.
pub const NONCE_LIFE_SECONDS: u64 = 3_600;

/// Never reached, and asserted: every record may have a timer, and a resource a few. A timer's name has 24 bits for it.
pub const TIMERS_PER_SHARD: usize = 1 << 24;

/// Outcome: a connection is closed as soon as it has been accepted. As many as a shard serves phones that each have one.
pub const CONNECTIONS_PER_SHARD: usize = 65_536;

/// Outcome: closed as soon as it has been accepted. Connections of one source address (IPv6: of one /64) of the whole
/// process: a site whose phones share one address, each with a connection.
pub const CONNECTIONS_PER_SOURCE: u32 = 4_096;
/// Outcome: the same. Those by which no message has come yet, TLS handshakes included: a site of that size that comes back
/// after a power cut, each phone being at it for a tenth of a second.
pub const HANDSHAKES_PER_SOURCE: u32 = 512;
/// Outcome: the same. Connections of one address that speaks for many, an edge or this host itself: as many as one
/// address has ports.
pub const CONNECTIONS_PER_EDGE: u32 = 65_536;

// What one connection may do.

/// Outcome: NOTIFYs wait, with the newest state of each subscription, until the peer has taken half of it. What is
/// written and not yet taken: a second of a slow line.
pub const STREAM_QUEUE_BYTES: usize = 65_536;
/// Outcome: closed. Answers are not held back; who asks this much and reads nothing is no phone.
pub const STREAM_QUEUE_BYTES_MAX: usize = 262_144;
/// Outcome: closed, and its subscriptions wait for their phones. The peer has taken nothing for so long; a little less
/// than 64·T1, so that its connection ends and not its subscriptions.
pub const STREAM_STALL_SECONDS: u64 = 30;
/// Outcome: that a NOTIFY is not answered in time says nothing of who was to answer it. So long does it take what waits at
/// a time to leave; a quarter of 64·T1, so that an answer to what was written on time has half of that left.
pub const STREAM_SLOW_SECONDS: u64 = 8;
/// Outcome: closed. No message has come since it was opened, handshakes included.
pub const STREAM_FIRST_MESSAGE_SECONDS: u64 = 30;
/// Outcome: closed. A message that has begun has not ended.
pub const STREAM_MESSAGE_SECONDS: u64 = 30;
/// Outcome: closed. Its peer says nothing more, and another shard has still not answered what it asked.
pub const STREAM_LAST_ANSWERS_SECONDS: u64 = 5;
/// Outcome: closed. Nothing has come, and nobody is told anything by it.
pub const STREAM_IDLE_SECONDS: u64 = 900;
/// Outcome: idle. How long another shard may take to say that it tells somebody by a connection.
pub const STREAM_USED_SECONDS: u64 = 5;

/// Outcome: 431, and closed. The request that opens a WebSocket connection: a page's cookies come with it.
pub const WEB_REQUEST_BYTES: usize = 16_384;

/// Outcome: the others are not looked at. Names in a peer's certificate.
pub const CERTIFICATE_NAMES: usize = 64;
/// Outcome: the dialogs that such a connection carries wait for their phones when it ends. Connections of edges that a shard
/// knows of, all that the others have accepted among them.
pub const EDGE_CONNECTIONS_PER_SHARD: usize = 4_096;
/// Outcome: the others follow in the next step. Dialogs that go on by the connection that their edge has now.
pub const FOLLOWERS_PER_STEP: usize = 256;

/// Bytes that one read of a connection brings at most: one for all of a shard, as nothing waits in it.
pub const STREAM_READ_BYTES: usize = 16_384;
/// Outcome: cut off. How long a connection that we close may take what is on its way to its peer.
pub const STREAM_LINGER_SECONDS: u64 = 5;

/// Outcome: nobody is known by that name. Bytes of a host (RFC 1035 2.3.4).
pub const HOST_BYTES: usize = 255;

// Names that are looked up.

/// Outcome: as if the resolver had not answered. Names of Contacts and Routes that a shard remembers: edges by name are few.
pub const NAMES_PER_SHARD: usize = 4_096;
/// Outcome: what comes later is not tried. Addresses of one name.
pub const TARGETS_PER_NAME: usize = 8;
/// Outcome: as if the resolver had not answered. Names that the control thread looks up at a time.
pub const NAMES_LOOKED_UP: usize = 256;
/// What is known of a name is good for so long at least, and at most, whatever its records say.
pub const NAME_SECONDS_MIN: u64 = 10;
/// See `NAME_SECONDS_MIN`.
pub const NAME_SECONDS_MAX: u64 = 3_600;
/// That there is no such name is believed for so long.
pub const NAME_SECONDS_NOWHERE: u64 = 30;
/// A resolver that does not answer is asked again after so long.
pub const NAME_SECONDS_AGAIN: u64 = 2;
/// Addresses whose time is over are kept for so long, for a resolver that does not answer (RFC 8767).
pub const NAME_SECONDS_STALE: u64 = 3_600;

// What one resource, dialog or phone may have.

/// Outcome: it goes by a connection that its phone has open, or the document says less. A NOTIFY up to here crosses every
/// network in one piece; longer ones were lost.
pub const NOTIFY_BYTES: usize = 1_300;
/// Outcome: the document says less. Subscriptions of a phone that are looked at for one with a connection, when a NOTIFY
/// does not fit into a datagram.
pub const DETOUR_LOOKS: usize = 64;
/// Outcome: 503 for the next watcher. One hot resource may take a quarter of a shard.
pub const WATCHERS_PER_RESOURCE: usize = 500_000;
/// Outcome: 503, and 507 in HTTP. Publishers and hint sources of one resource: its devices, and what watches it.
pub const SOURCES_PER_RESOURCE: usize = 32;
/// Outcome: the oldest calls are left out of documents. More lamps than any phone can show for one extension.
pub const CALLS_PER_RESOURCE: usize = 64;
/// Outcome: what comes later is left out of documents. Tuples, and persons, devices, notes, of one resource.
pub const PRESENCE_PARTS_PER_RESOURCE: usize = 64;
/// Outcome: 507 in HTTP. Sources that number what they say, each with an epoch that is remembered.
pub const NUMBERED_SOURCES: usize = 256;
/// Outcome: 507 in HTTP. All text that one source says of one resource.
pub const HINT_BYTES: usize = 16_384;
/// Outcome: 503. Subscriptions of all phones of one identity: a large operator panel has 1,000.
pub const SUBSCRIPTIONS_PER_PHONE: usize = 5_000;
/// Outcome: 503. Publications of one identity: a PBX that speaks for every extension of the largest site.
pub const PUBLICATIONS_PER_USER: u32 = 100_000;

/// Outcome: it is told less often than it wants (RFC 6446 min-rate), and told so. Seconds between two NOTIFYs that nothing
/// but that is the reason for.
pub const MIN_RATE_SECONDS: u32 = 10;

// One message.

/// A longer datagram is cut by the kernel. The longest SUBSCRIBE seen behind an SBC has 2,400 bytes.
pub const RECEIVE_BUFFER_BYTES: usize = 4_096;
/// Outcome: 400. Header fields of one message, continuation lines counted with their field.
pub const HEADERS: usize = 256;
/// Outcome: 400. All header bytes together: what is copied into a record comes out of them.
pub const HEADER_BYTES: usize = 32_768;
/// Outcome: 483. As Max-Forwards starts at 70, no honest request has passed more proxies.
pub const VIAS: usize = 70;
/// Outcome: 400. A dialog's record keeps them, so they are paid for as long as it lives.
pub const ROUTES: usize = 16;
/// Outcome: 400. Bytes of the route set that a dialog keeps.
pub const ROUTE_SET_BYTES: usize = 4_096;
/// Outcome: 414 for a Request-URI, 400 for a Contact.
pub const URI_BYTES: usize = 1_024;
/// Outcome: 400. Call-ID, and each tag: they are kept in the dialog.
pub const CALL_ID_BYTES: usize = 512;
/// See `CALL_ID_BYTES`. The test message of RFC 4475 3.1.1.7 has one of 302 bytes.
pub const TAG_BYTES: usize = 512;
/// Outcome: 404. User and host of a resource together.
pub const RESOURCE_BYTES: usize = 512;
/// Outcome: 413. The body of a PUBLISH.
pub const BODY_BYTES: usize = 16_384;
/// Outcome: 513, and the connection is closed. The body of a message that comes by a connection: what comes is kept until
/// it is whole, and a whole message fits into a block of forwarded ones.
pub const STREAM_BODY_BYTES: usize = 24_576;
/// Outcome: 400. Nesting of XML elements; PIDF with every extension uses 8.
pub const XML_DEPTH: usize = 32;
/// Outcome: 400. Attributes of one XML element.
pub const XML_ATTRIBUTES: usize = 64;
/// Outcome: 400. XML elements of one body.
pub const XML_ELEMENTS: usize = 1_024;

// Hints from outside.

/// Outcome: 413 in HTTP. Hints in one bulk request.
pub const BULK_HINTS: usize = 10_000;
/// Outcome: 413 in HTTP. The body of one request: a bulk of 10,000 hints of 800 bytes.
pub const HTTP_BODY_BYTES: usize = 8_388_608;
/// Outcome: the slowest reader of the event stream is closed. Changes that wait for it.
pub const EVENT_STREAM_QUEUE: usize = 4_096;
/// Outcome: 503 in HTTP. Readers of the event stream.
pub const EVENT_STREAM_READERS: usize = 64;

/// Rows of one page of a list; the next page says where to go on.
pub const LIST_ROWS_PER_PAGE: usize = 1_000;
/// Entries that a shard looks at for one page, fitting or not: half a millisecond of its time.
pub const LIST_LOOKS_PER_PAGE: usize = 4_096;
/// With more subscriptions than this the figures tell of the audit's last round, and not of this moment: looking at so
/// many takes a millisecond or two of the shard's time.
pub const FIGURES_LOOKS: usize = 16_384;
/// Subscriptions that the audit looks at in one go: some 25 microseconds of the shard's time.
pub const AUDIT_LOOKS: usize = 512;
/// Outcome: 503 in HTTP. Reloads that wait for the one before.
pub const RELOADS_WAITING: usize = 8;
/// Outcome: 503 in HTTP. Questions of the control thread that wait for their answers.
pub const CONTROL_REQUESTS_OPEN: usize = 1_024;

// Between shards and to the edge.

/// Blocks of forwarded messages on their way between two shards. Outcome: the next ones wait with who sends them.
pub const FORWARD_BLOCKS_QUEUED: usize = 16;
/// Outcome: 503 for what is new. Blocks that wait for one shard with all others beyond that: a quarter of a second of its
/// work, and what waits for longer is soon sent again.
pub const FORWARD_BLOCKS_WAITING_OF_NEW: usize = 64;
/// Outcome: the datagram is dropped and counted, whatever it is. 64 MiB, four seconds of a shard's work: of what would come
/// behind it an earlier copy waits already.
pub const FORWARD_BLOCKS_WAITING: usize = 1_024;
/// Mail to one shard. Outcome: hint mail waits as "dirty for that shard", control mail has room of its own.
pub const MAIL_QUEUED: usize = 8_192;
/// Mail that waits at its sender for room in one queue. Outcome: lost, and counted as such.
pub const MAIL_WAITING: usize = 65_536;
/// Room in the mail queue that only control mail may take.
pub const MAIL_QUEUED_FOR_CONTROL: usize = 64;
/// Blocks of records on their way to the disk, by shard. Outcome: the next one stays with its shard and grows.
pub const RECORD_BLOCKS_QUEUED: usize = 64;
/// Outcome: records are lost, counted as such, and the store is given up. Bytes of one block that waits for the disk.
pub const RECORD_BYTES_WAITING: usize = 64 << 20;
/// Datagrams one turn may send. A step whose effects are nearly full stops and goes on in the next turn.
pub const SENDS_PER_TURN: usize = 1_024;
/// Effects are nearly full when fewer sends than this are free: the most that one input can cause without stopping.
pub const SENDS_RESERVED: usize = 16;
/// Mails of one turn. As for sends.
pub const MAILS_PER_TURN: usize = 4_096;
/// Outcome: less new work is taken on from half of it on, and none from nine tenths on. NOTIFYs that phones have asked for
/// and that wait for their turn: half a second of what one core sends.
pub const NOTIFIES_WAITING: usize = 16_384;
/// As for `NOTIFIES_WAITING`, where it goes on for a tenth of a second. So late is input read, or do timers fire: an answer
/// must not take so long that its request is sent again, and a lamp is to be right within a second.
pub const DELAY_MILLIS_MAX: u64 = 100;
/// Outcome: less new work is taken on from half of it on; 503 for all beyond it. Answers that wait for their records to be kept, each in a send slot: a second of a storm.
pub const ANSWERS_HELD: usize = 32_768;
/// Timers that one step fires before it lets the edge flush.
pub const TIMERS_PER_STEP: usize = 256;

// Memory for datagrams on their way.

/// Slots of 2 KiB: 256 MiB at the very most, taken as needed. One for each NOTIFY in flight.
pub const SEND_SLOTS_SMALL: usize = 131_072;
/// Slots of 8 KiB: 64 MiB at the very most.
pub const SEND_SLOTS_LARGE: usize = 8_192;
/// NOTIFYs younger than T1 that wait for their answer: what the other side's socket buffer takes at the start.
pub const IN_FLIGHT_START: usize = 256;
/// See `IN_FLIGHT_START`: never fewer, however bad it looks. With half of all datagrams lost, each holding its place
/// for T1, these still let 500 NOTIFYs a second through, and the smallest receive buffer takes their answers.
pub const IN_FLIGHT_MIN: usize = 128;
/// See `IN_FLIGHT_START`: never more, however well it goes.
pub const IN_FLIGHT_MAX: usize = 16_384;
/// Outcome: the others are looked at in the next step. Subscriptions that are held back as their phones may not answer: a
/// fraction of a millisecond.
pub const HELD_BACK_PER_STEP: usize = 4_096;
/// What the kernel charges a receive buffer for one answer, with its own share: 1,280 bytes on loopback, up to 2,304
/// from a network card. So many answers as the smallest receive buffer of a shard takes may be on their way at once.
pub const RECEIVE_BUFFER_BYTES_PER_ANSWER: usize = 2_048;

const _: () = assert!(SENDS_RESERVED < SENDS_PER_TURN);
const _: () = assert!(CLIENT_TRANSACTIONS_PER_SHARD <= SEND_SLOTS_SMALL + SEND_SLOTS_LARGE);
const _: () = assert!(MAIL_QUEUED_FOR_CONTROL < MAIL_QUEUED);
const _: () = assert!(
    SUBSCRIPTIONS_PER_SHARD
        + CLIENT_TRANSACTIONS_PER_SHARD
        + SERVER_TRANSACTIONS_PER_SHARD
        + PUBLICATIONS_PER_SHARD
        + RESOURCES_PER_SHARD * 4
        + CONNECTIONS_PER_SHARD
        + NAMES_PER_SHARD
        < TIMERS_PER_SHARD
);

/// Listeners of one shard, those that drain included: refused at start or reload. Each is a place in the ring's table
/// of files.
pub const LISTENERS_MAX: usize = 64;
/// Older listeners of one address that drain at a time; the oldest is closed when one more begins to, and what was
/// begun on it goes on with its successor. Each is looked at whenever something is sent.
pub const DRAINING_PER_ADDRESS: usize = 8;

// Who may what.

/// Refused when the configuration is read. Names and aliases of domains: each costs a few table entries.
pub const POLICY_HOSTS_MAX: usize = 16_384;
/// Refused when the configuration is read. Rules are tried one after the other for each new subscription.
pub const POLICY_RULES_MAX: usize = 1_024;
/// Refused when the configuration is read. A pattern is matched in at most its length times the name's length.
pub const POLICY_PATTERN_BYTES: usize = 256;

/// Of a phone whose connection has gone, so many other dialogs are looked at for one that it has still.
pub const KEYS_ASKED_FOR_A_WAY: usize = 100;
