//! All metrics of a shard: in one line each counter and gauge, under the name, with the labels and the help that
//! Prometheus sees. Whoever adds one writes it here and nowhere else.

/// One counter or gauge as Prometheus sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Description {
    /// The metric's name; those of one family follow each other.
    pub name: &'static str,
    /// Label names and values.
    pub labels: &'static [(&'static str, &'static str)],
    /// The same for the whole family.
    pub help: &'static str,
}

macro_rules! metrics {
    ($(#[$doc:meta])* $kind:ident: $(
        $name:literal $help:literal { $( $variant:ident { $( $label:ident = $value:literal ),* } )* }
    )*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum $kind { $( $( $variant, )* )* }

        impl $kind {
            /// All of them, in the order of the table.
            pub const ALL: &[$kind] = &[ $( $( $kind::$variant, )* )* ];

            const DESCRIPTIONS: &[Description] = &[ $( $( Description {
                name: $name,
                labels: &[ $( (stringify!($label), $value) ),* ],
                help: $help,
            }, )* )* ];

            /// How Prometheus sees it.
            pub const fn description(self) -> &'static Description {
                &Self::DESCRIPTIONS[self as usize]
            }
        }
    };
}

metrics! {
    /// What only ever rises.
    Counter:

    "lampfield_datagrams_received_total" "Datagrams, and messages of connections, by what became of them." {
        DatagramRequest { outcome = "request" }
        DatagramAnswer { outcome = "answer" }
        DatagramKeepalive { outcome = "keepalive" }
        DatagramStun { outcome = "stun" }
        DatagramUnreadable { outcome = "unreadable" }
        DatagramTruncated { outcome = "truncated" }
        DatagramForwarded { outcome = "forwarded" }
        DatagramForwardFull { outcome = "forward_full" }
        DatagramForwardedTwice { outcome = "forwarded_twice" }
        DatagramUnknownListener { outcome = "unknown_listener" }
    }
    "lampfield_datagrams_unreadable_total" "Datagrams that no answer could be made for, by reason." {
        UnreadableStartLine { reason = "start_line" }
        UnreadableHeader { reason = "header" }
        UnreadableTooLong { reason = "too_long" }
        UnreadableNoVia { reason = "no_via" }
        UnreadableNoDialog { reason = "no_dialog_headers" }
        UnreadableOther { reason = "other" }
    }
    "lampfield_connections_total" "Connections by what happened to them; each is opened once and closed once." {
        ConnectionOpened { event = "opened" }
        ConnectionClosedByPeer { event = "closed_by_peer" }
        ConnectionUnreadable { event = "closed_unreadable" }
        ConnectionTooLong { event = "closed_too_long" }
        ConnectionSilent { event = "closed_silent" }
        ConnectionUnfinished { event = "closed_unfinished" }
        ConnectionStalled { event = "closed_stalled" }
        ConnectionIdle { event = "closed_idle" }
        ConnectionFlooded { event = "closed_flooded" }
        ConnectionRefused { event = "closed_refused" }
    }
    "lampfield_connections_refused_total" "Connections that were refused because their source had as many as it may, by limit." {
        RefusedConnections { limit = "connections_per_source" }
        RefusedHandshakes { limit = "handshakes_per_source" }
        RefusedEdge { limit = "connections_per_edge" }
    }
    "lampfield_requests_total" "Requests by method, retransmissions not counted." {
        RequestSubscribe { method = "SUBSCRIBE" }
        RequestPublish { method = "PUBLISH" }
        RequestNotify { method = "NOTIFY" }
        RequestOptions { method = "OPTIONS" }
        RequestInvite { method = "INVITE" }
        RequestAck { method = "ACK" }
        RequestBye { method = "BYE" }
        RequestCancel { method = "CANCEL" }
        RequestRegister { method = "REGISTER" }
        RequestOther { method = "other" }
    }
    "lampfield_retransmissions_absorbed_total" "Retransmitted requests that were answered again or left alone." {
        RetransmissionAnswered { what = "answered" }
        RequestMerged { what = "merged" }
    }
    "lampfield_responses_sent_total" "Responses by status." {
        Response100 { status = "100" }
        Response200 { status = "200" }
        Response204 { status = "204" }
        Response400 { status = "400" }
        Response401 { status = "401" }
        Response403 { status = "403" }
        Response404 { status = "404" }
        Response405 { status = "405" }
        Response406 { status = "406" }
        Response412 { status = "412" }
        Response413 { status = "413" }
        Response414 { status = "414" }
        Response415 { status = "415" }
        Response416 { status = "416" }
        Response420 { status = "420" }
        Response423 { status = "423" }
        Response481 { status = "481" }
        Response482 { status = "482" }
        Response483 { status = "483" }
        Response489 { status = "489" }
        Response500 { status = "500" }
        Response501 { status = "501" }
        Response503 { status = "503" }
        Response505 { status = "505" }
        Response513 { status = "513" }
        ResponseOther1xx { status = "other_1xx" }
        ResponseOther2xx { status = "other_2xx" }
        ResponseOther3xx { status = "other_3xx" }
        ResponseOther4xx { status = "other_4xx" }
        ResponseOther5xx { status = "other_5xx" }
        ResponseOther6xx { status = "other_6xx" }
    }
    "lampfield_responses_failed_total" "Responses that could not be sent." {
        ResponseSendFailed { reason = "send_failed" }
        ResponseNoSlot { reason = "no_slot" }
    }
    "lampfield_notifies_total" "NOTIFY requests by what happened to them; each is sent once and ends once." {
        NotifySent { event = "sent" }
        NotifyRetransmitted { event = "retransmitted" }
        NotifyReplaced { event = "replaced" }
        NotifySpared { event = "spared" }
        NotifyAnswered1xx { event = "answered_1xx" }
        NotifyAnswered2xx { event = "answered_2xx" }
        NotifyAnswered3xx { event = "answered_3xx" }
        NotifyAnswered4xx { event = "answered_4xx" }
        NotifyAnswered481 { event = "answered_481" }
        NotifyAnswered5xx { event = "answered_5xx" }
        NotifyAnswered6xx { event = "answered_6xx" }
        NotifyTimedOut { event = "timed_out" }
        NotifySendFailed { event = "send_failed" }
        NotifyPostponed { event = "postponed" }
        NotifyReserved { event = "reserved" }
        NotifyPaced { event = "paced" }
    }
    "lampfield_notifies_oversize_total" "NOTIFYs over UDP that would be longer than 1,300 bytes, by what was done about it." {
        OversizeByConnection { outcome = "by_connection" }
        OversizeDetails { outcome = "without_details" }
        OversizeOthers { outcome = "without_others" }
        OversizeSent { outcome = "sent_all_the_same" }
        OversizeHeaders { outcome = "headers_alone" }
    }
    "lampfield_names_total" "Host names of Contacts and Routes by what came of looking them up, and NOTIFYs that went on to the next address of theirs." {
        NameAsked { event = "asked" }
        NameFound { event = "found" }
        NameNowhere { event = "nowhere" }
        NameUnanswered { event = "unanswered" }
        NameNextTarget { event = "next_address" }
    }
    "lampfield_answers_unmatched_total" "Answers that belong to no open transaction." {
        AnswerLate { reason = "late" }
        AnswerStray { reason = "stray" }
    }
    "lampfield_subscriptions_created_total" "Subscriptions accepted." {
        SubscriptionCreated {}
    }
    "lampfield_subscriptions_refreshed_total" "Refreshes accepted." {
        SubscriptionRefreshed {}
    }
    "lampfield_subscriptions_fetched_total" "Fetches (SUBSCRIBE with Expires 0 outside of a dialog) accepted." {
        SubscriptionFetched {}
    }
    "lampfield_subscriptions_ended_total" "Subscriptions that ended, by reason." {
        SubscriptionTimeout { reason = "timeout" }
        SubscriptionUnsubscribed { reason = "unsubscribed" }
        SubscriptionNotifyTimeout { reason = "notify_timeout" }
        SubscriptionNotifyFailed { reason = "notify_failed" }
        SubscriptionDeactivated { reason = "deactivated" }
        SubscriptionSuperseded { reason = "superseded" }
        SubscriptionCut { reason = "connection_closed" }
    }
    "lampfield_subscriptions_parked_total" "Subscriptions parked because their phone stopped answering or its connection closed, and heard again." {
        SubscriptionParked { event = "parked" }
        SubscriptionUnparked { event = "unparked" }
    }
    "lampfield_subscriptions_moved_total" "Subscriptions that followed their phone to another address, because another one of its was refreshed or begun there." {
        SubscriptionMoved {}
    }
    "lampfield_subscriptions_followed_total" "Subscriptions that followed their edge to another one of its connections, as theirs had ended." {
        SubscriptionFollowed {}
    }
    "lampfield_publications_total" "Publications by what happened to them." {
        PublicationCreated { event = "created" }
        PublicationRefreshed { event = "refreshed" }
        PublicationModified { event = "modified" }
        PublicationRemoved { event = "removed" }
        PublicationExpired { event = "expired" }
        PublicationStale { event = "stale" }
    }
    "lampfield_hints_total" "Hints from outside by what happened to them." {
        HintSet { event = "set" }
        HintUnchanged { event = "unchanged" }
        HintStale { event = "stale" }
        HintDeleted { event = "deleted" }
        HintExpired { event = "expired" }
    }
    "lampfield_documents_rendered_total" "Document tails rendered; every further watcher shares one." {
        DocumentRendered {}
    }
    "lampfield_mail_total" "Mail between shards." {
        MailSent { event = "sent" }
        MailReceived { event = "received" }
        MailGap { event = "gap" }
    }
    "lampfield_authentication_total" "Digest authentication by outcome." {
        AuthenticationChallenged { outcome = "challenged" }
        AuthenticationStale { outcome = "stale" }
        AuthenticationFailed { outcome = "failed" }
        AuthenticationOk { outcome = "ok" }
        AuthenticationReplayed { outcome = "replayed" }
    }
    "lampfield_forbidden_total" "Requests that policy refused." {
        ForbiddenSubscribe { method = "SUBSCRIBE" }
        ForbiddenPublish { method = "PUBLISH" }
    }
    "lampfield_requests_refused_total" "Requests refused because too much waits already, by what they asked for and what waits." {
        RefusedNewInput { class = "new", waits = "input" }
        RefusedNewTimers { class = "new", waits = "timers" }
        RefusedNewNotifies { class = "new", waits = "notifies" }
        RefusedNewAnswers { class = "new", waits = "answers" }
        RefusedNewSlots { class = "new", waits = "slots" }
        RefusedUnprovenInput { class = "unproven", waits = "input" }
        RefusedUnprovenTimers { class = "unproven", waits = "timers" }
        RefusedUnprovenNotifies { class = "unproven", waits = "notifies" }
        RefusedUnprovenAnswers { class = "unproven", waits = "answers" }
        RefusedUnprovenSlots { class = "unproven", waits = "slots" }
        RefusedFetchInput { class = "fetch", waits = "input" }
        RefusedFetchTimers { class = "fetch", waits = "timers" }
        RefusedFetchNotifies { class = "fetch", waits = "notifies" }
        RefusedFetchAnswers { class = "fetch", waits = "answers" }
        RefusedFetchSlots { class = "fetch", waits = "slots" }
        RefusedStopping { class = "any", waits = "stop" }
    }
    "lampfield_store_records_total" "Records of what outlives the process, by what became of them." {
        RecordKept { outcome = "kept" }
        RecordLost { outcome = "lost" }
        RecordLate { outcome = "late" }
        RecordRestored { outcome = "restored" }
        RecordExpired { outcome = "expired" }
        RecordAside { outcome = "set_aside" }
    }
    "lampfield_limit_reached_total" "How often a limit refused or dropped something." {
        LimitSubscriptions { limit = "subscriptions" }
        LimitSubscriptionsPerUser { limit = "subscriptions_per_user" }
        LimitClientTransactions { limit = "client_transactions" }
        LimitServerTransactions { limit = "server_transactions" }
        LimitPublications { limit = "publications" }
        LimitResources { limit = "resources" }
        LimitWatchersPerResource { limit = "watchers_per_resource" }
        LimitSourcesPerResource { limit = "sources_per_resource" }
        LimitPublicationsPerResource { limit = "publications_per_resource" }
        LimitHints { limit = "hints" }
        LimitHintBytes { limit = "hint_bytes" }
        LimitCallsPerHint { limit = "calls_per_hint" }
        LimitNumberedSources { limit = "numbered_sources" }
        LimitConnections { limit = "connections" }
        LimitNames { limit = "names" }
        LimitEdgeConnections { limit = "edge_connections" }
        LimitOther { limit = "other" }
        LimitSendSlots { limit = "send_slots" }
        LimitAnswersHeld { limit = "answers_held" }
        LimitForwarded { limit = "forwarded" }
        LimitSubscriptionsPerSource { limit = "subscriptions_per_source" }
        LimitSubscriptionsPerDomain { limit = "subscriptions_per_domain" }
        LimitPublicationsPerUser { limit = "publications_per_user" }
        LimitPublicationsPerSource { limit = "publications_per_source" }
        LimitPublicationsPerDomain { limit = "publications_per_domain" }
        LimitRequestsPerUser { limit = "requests_per_user" }
        LimitRequestsPerSource { limit = "requests_per_source" }
        LimitRequestsPerDomain { limit = "requests_per_domain" }
    }
    "lampfield_mail_edge_total" "What mail between threads met on its way." {
        MailWake { event = "wake" }
        MailDeferred { event = "deferred" }
        MailLost { event = "lost" }
        MailBlockDeferred { event = "block_deferred" }
    }
    "lampfield_kernel_total" "Calls into the kernel, and what datagrams met there." {
        KernelEnter { event = "enter" }
        KernelReceiveWithoutBuffer { event = "receive_without_buffer" }
        KernelReceiveFailed { event = "receive_failed" }
        KernelDatagramDropped { event = "datagram_dropped" }
        KernelSendFailed { event = "send_failed" }
        KernelSendDeferred { event = "send_deferred" }
        KernelAcceptFailed { event = "accept_failed" }
        KernelConnectionFailed { event = "connection_failed" }
        KernelTlsFailed { event = "tls_failed" }
    }
    "lampfield_turns_total" "Turns of the shard's loop." {
        Turn {}
    }
    "lampfield_standstills_total" "Times that timers of a shard were four seconds late or more: nobody ran it, as its process or machine was stopped or had no processor for it." {
        StoodStill {}
    }
    "lampfield_audit_mended_total" "Rules that a subscription was found to break, and what put it right; anything but 0 is a bug." {
        AuditOverdue { rule = "overdue" }
        AuditDeadline { rule = "deadline" }
        AuditQueue { rule = "queue" }
        AuditLost { rule = "lost" }
        AuditInFlight { rule = "in_flight" }
        AuditUnasked { rule = "unasked" }
    }
    "lampfield_bugs_total" "Rules of our own that were broken; whatever was concerned has been ended, or put right." {
        Bug {}
    }
}

metrics! {
    /// What is there now: read from the tables when somebody asks.
    Gauge:

    "lampfield_subscriptions" "Subscriptions now, by state." {
        SubscriptionsActive { state = "active" }
        SubscriptionsSilent { state = "silent" }
        SubscriptionsParked { state = "parked" }
        SubscriptionsTerminating { state = "terminating" }
    }
    "lampfield_load_level" "How far a shard is behind with its work: 0 calm, 1 busy, 2 strained, 3 full." {
        LoadLevel {}
    }
    "lampfield_load_percent" "How much of what may wait does, by what waits." {
        LoadInput { of = "input" }
        LoadTimers { of = "timers" }
        LoadNotifies { of = "notifies" }
        LoadAnswers { of = "answers" }
        LoadSlots { of = "slots" }
    }
    "lampfield_subscriptions_dirty" "Subscriptions to which a newer state is owed now." {
        SubscriptionsDirty {}
    }
    "lampfield_subscriptions_overdue" "Subscriptions older than their deadline allows now; anything but 0 is a bug." {
        SubscriptionsOverdue {}
    }
    "lampfield_notifies_in_flight" "NOTIFY requests that wait for their answer now." {
        NotifiesInFlight {}
    }
    "lampfield_transactions" "Transactions now." {
        TransactionsClient { side = "client" }
        TransactionsServer { side = "server" }
    }
    "lampfield_connections" "Connections now." {
        Connections {}
    }
    "lampfield_publications" "Publications now." {
        Publications {}
    }
    "lampfield_resources" "Resources now: those with a state of their own, and copies that watchers need." {
        ResourcesHome { kind = "home" }
        ResourcesCopy { kind = "copy" }
    }
    "lampfield_timers" "Timers now." {
        Timers {}
    }
    "lampfield_store_degraded" "1 while the store does not have everything: what it lacks does not outlive the process." {
        StoreDegraded {}
    }
    "lampfield_send_slots" "Send slots leased now." {
        SendSlots {}
    }
    "lampfield_send_slot_bytes" "Memory that send slots hold now." {
        SendSlotBytes {}
    }
}
