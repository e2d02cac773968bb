//! `application/simple-message-summary`.

use crate::hint::{MessageClass, MessageCount};

use super::*;

fn count(class: MessageClass, new: u32, old: u32, urgent: Option<(u32, u32)>) -> MessageCount {
    MessageCount {
        class,
        new,
        old,
        urgent,
    }
}

fn full() -> Mailbox {
    Mailbox {
        waiting: true,
        account: "sip:voicemail@example.com".into(),
        counts: vec![
            count(MessageClass::Voice, 4, 8, Some((1, 2))),
            count(MessageClass::Fax, 0, 1, None),
        ],
    }
}

fn summary(snapshot: &Snapshot, options: &RenderOptions) -> String {
    document("message-summary", 5, snapshot, options)
}

//= RFC 3842 5.2 type=test
#[test]
fn a_summary_tells_that_messages_wait_where_and_how_many() {
    assert_eq!(
        summary(&of_mailbox(full()), &RenderOptions::default()),
        "Messages-Waiting: yes\r\nMessage-Account: sip:voicemail@example.com\r\n\
         Voice-Message: 4/8 (1/2)\r\nFax-Message: 0/1\r\n"
    );
}

#[test]
fn a_mailbox_without_state_has_no_messages_waiting() {
    let nothing = Snapshot::empty();
    assert_eq!(
        summary(&nothing, &RenderOptions::default()),
        "Messages-Waiting: no\r\nVoice-Message: 0/0 (0/0)\r\n"
    );
    let options = RenderOptions {
        message_counts: false,
        ..RenderOptions::default()
    };
    assert_eq!(summary(&nothing, &options), "Messages-Waiting: no\r\n");
}

#[test]
fn messages_of_unknown_number_are_not_counted_as_none() {
    let mailbox = Mailbox {
        waiting: true,
        ..Mailbox::default()
    };
    assert_eq!(
        summary(&of_mailbox(mailbox), &RenderOptions::default()),
        "Messages-Waiting: yes\r\n"
    );
}

//= RFC 3842 3.6 type=test
#[test]
fn the_account_is_told_only_where_it_differs_and_can_stand_in_a_line() {
    for account in ["sip:1001@example.com", "", "sip:a@b\r\nX: y"] {
        let mailbox = Mailbox {
            account: account.into(),
            ..full()
        };
        let text = summary(&of_mailbox(mailbox), &RenderOptions::default());
        assert!(!text.contains("Account"), "{account:?}");
    }
}

#[test]
fn withheld_details_leave_yes_or_no() {
    let options = RenderOptions {
        withhold_details: true,
        ..RenderOptions::default()
    };
    assert_eq!(
        summary(&of_mailbox(full()), &options),
        "Messages-Waiting: yes\r\n"
    );
}

#[test]
fn what_a_summary_tells_is_read_back_from_it() {
    let read = read_back(
        "message-summary",
        &of_mailbox(full()),
        &RenderOptions::default(),
    );
    assert_eq!(read, Published::Mailbox(full()));
}

//= RFC 3842 5.2 type=test
#[test]
fn a_summary_of_another_hand_is_understood() {
    let body = "messages-waiting : YES\nVoice-Message:2 / 8 ( 0 / 2 ) \r\nfax-message: 1/0\r\n\
                X-Other: what\r\n\r\nTo: <alice@example.com>\r\nno colon here";
    assert_eq!(
        publish("message-summary", body),
        Ok(Published::Mailbox(Mailbox {
            waiting: true,
            account: "".into(),
            counts: vec![
                count(MessageClass::Voice, 2, 8, Some((0, 2))),
                count(MessageClass::Fax, 1, 0, None),
            ],
        }))
    );
}

#[test]
fn what_is_not_a_summary_is_refused() {
    for body in [
        "",
        "\r\n",
        "Voice-Message: 1/0\r\n",
        "Messages-Waiting: maybe\r\n",
        "Messages-Waiting yes\r\n",
        "Messages-Waiting: yes\r\nVoice-Message: many\r\n",
        "Messages-Waiting: yes\r\nVoice-Message: 1/+2\r\n",
        "Messages-Waiting: yes\r\nVoice-Message: 1/99999999999\r\n",
        "Messages-Waiting: yes\r\nVoice-Message: 1/2 (1/2\r\n",
    ] {
        assert!(publish("message-summary", body).is_err(), "{body:?}");
    }
}
