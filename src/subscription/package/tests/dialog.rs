//! `application/dialog-info+xml`.

use proptest::prelude::*;

use crate::hint::{Call, CallState, Direction, ForeignElement, Party};

use super::*;

fn ringing() -> Call {
    Call {
        id: "a84b4c76e66710".into(),
        state: CallState::Early,
        direction: Some(Direction::Recipient),
        call_id: "a84b4c76e66710@pbx.example.com".into(),
        local_tag: "1928301774".into(),
        remote_tag: "314159".into(),
        local: Party {
            identity: "sip:1001@example.com".into(),
            display: "Desk 1001".into(),
            target: "sip:1001@192.0.2.7:5062".into(),
            held: false,
        },
        remote: Party {
            identity: "sip:1002@example.com".into(),
            display: "J\u{f6}rg \"<&>\"".into(),
            target: "sip:1002@192.0.2.8".into(),
            held: false,
        },
        event: "".into(),
        extensions: vec![],
    }
}

fn all_dialogs() -> RenderOptions {
    RenderOptions {
        all_dialogs: true,
        tail_size_max: usize::MAX,
        ..RenderOptions::default()
    }
}

//= RFC 4235 4.1 type=test
#[test]
fn a_ringing_call_is_told_with_all_that_a_pickup_needs() {
    assert_eq!(
        document(
            "dialog",
            7,
            &of_calls(vec![ringing()]),
            &RenderOptions::default()
        ),
        r#"<?xml version="1.0"?>
<dialog-info xmlns="urn:ietf:params:xml:ns:dialog-info" version="7" state="full" entity="sip:1001@example.com:5060;user=phone">
<dialog id="a84b4c76e66710" call-id="a84b4c76e66710@pbx.example.com" local-tag="1928301774" remote-tag="314159" direction="recipient">
<state>early</state>
<local>
<identity display="Desk 1001">sip:1001@example.com</identity>
<target uri="sip:1001@192.0.2.7:5062"/>
</local>
<remote>
<identity display="Jörg &quot;&lt;&amp;&gt;&quot;">sip:1002@example.com</identity>
<target uri="sip:1002@192.0.2.8"/>
</remote>
</dialog>
</dialog-info>
"#
    );
}

#[test]
fn idle_is_a_full_document_with_a_terminated_dialog() {
    assert_eq!(
        document("dialog", 0, &of_calls(vec![]), &RenderOptions::default()),
        r#"<?xml version="1.0"?>
<dialog-info xmlns="urn:ietf:params:xml:ns:dialog-info" version="0" state="full" entity="sip:1001@example.com:5060;user=phone">
<dialog id="1001">
<state>terminated</state>
</dialog>
</dialog-info>
"#
    );
}

//= RFC 4235 3.7.1 type=test
#[test]
fn an_ended_call_keeps_its_id_and_tells_its_reason() {
    let mut ended = ringing();
    ended.state = CallState::Terminated;
    ended.event = "rejected".into();
    assert_eq!(
        document(
            "dialog",
            8,
            &of_calls(vec![ended]),
            &RenderOptions::default()
        ),
        r#"<?xml version="1.0"?>
<dialog-info xmlns="urn:ietf:params:xml:ns:dialog-info" version="8" state="full" entity="sip:1001@example.com:5060;user=phone">
<dialog id="a84b4c76e66710" call-id="a84b4c76e66710@pbx.example.com" local-tag="1928301774" remote-tag="314159" direction="recipient">
<state event="rejected">terminated</state>
</dialog>
</dialog-info>
"#
    );
}

//= RFC 4235 4.1.6.2 type=test
#[test]
fn a_held_call_says_that_its_end_renders_nothing() {
    let mut held = Call::bare("x", CallState::Confirmed);
    held.local.held = true;
    assert_eq!(
        document(
            "dialog",
            9,
            &of_calls(vec![held]),
            &RenderOptions::default()
        ),
        r#"<?xml version="1.0"?>
<dialog-info xmlns="urn:ietf:params:xml:ns:dialog-info" version="9" state="full" entity="sip:1001@example.com:5060;user=phone">
<dialog id="x">
<state>confirmed</state>
<local>
<target uri="sip:1001@example.com">
<param pname="+sip.rendering" pval="no" pvalue="no"/>
</target>
</local>
</dialog>
</dialog-info>
"#
    );
}

//= RFC 4235 6 type=test
#[test]
fn withheld_details_tell_the_state_and_nothing_of_whom() {
    let mut call = ringing();
    call.local.held = true;
    call.remote.held = true;
    let options = RenderOptions {
        withhold_details: true,
        ..RenderOptions::default()
    };
    assert_eq!(
        document("dialog", 1, &of_calls(vec![call]), &options),
        r#"<?xml version="1.0"?>
<dialog-info xmlns="urn:ietf:params:xml:ns:dialog-info" version="1" state="full" entity="sip:1001@example.com:5060;user=phone">
<dialog id="1001" direction="recipient">
<state>early</state>
<local>
<target uri="sip:1001@example.com">
<param pname="+sip.rendering" pval="no" pvalue="no"/>
</target>
</local>
</dialog>
</dialog-info>
"#
    );
}

#[test]
fn one_dialog_is_told_unless_all_are_asked_for() {
    let snapshot = of_calls(vec![
        ringing(),
        Call::bare("b", CallState::Confirmed),
        Call::bare("c", CallState::Terminated),
    ]);
    let told = |options: &RenderOptions| {
        document("dialog", 0, &snapshot, options)
            .matches("<dialog ")
            .count()
    };
    assert_eq!(told(&RenderOptions::default()), 1);
    assert_eq!(told(&all_dialogs()), 3);
}

#[test]
fn a_document_that_would_be_too_long_loses_details_before_it_loses_dialogs() {
    let calls: Vec<Call> = (0..4)
        .map(|number| {
            let mut call = ringing();
            call.id = format!("call-{number}").into();
            call
        })
        .collect();
    let snapshot = of_calls(calls);
    let full = tail_size("dialog", &snapshot, &all_dialogs());
    for tail_size_max in (0..full).step_by(7) {
        let options = RenderOptions {
            tail_size_max,
            ..all_dialogs()
        };
        let text = document("dialog", 0, &snapshot, &options);
        let size = tail_size("dialog", &snapshot, &options);
        let dialogs = text.matches("<dialog ").count();
        assert!(
            size <= tail_size_max || dialogs == 1,
            "{size} > {tail_size_max}"
        );
        assert!(
            dialogs == 4 || !text.contains("call-id"),
            "details go first"
        );
        assert!(
            text.contains("<dialog id=\"call-0\""),
            "the first one stays"
        );
    }
}

//= RFC 4235 4.1 type=test
#[test]
fn a_publication_as_a_proxy_makes_it_is_understood() {
    let body = r#"<?xml version="1.0"?>
<dialog-info xmlns="urn:ietf:params:xml:ns:dialog-info" version="0" state="partial" entity="sip:other@elsewhere">
  <dialog id="0_255@192.0.2.1" call-id="0_255@192.0.2.1" direction="recipient" local-tag="a" remote-tag="b">
    <state event="cancelled"> terminated </state>
    <duration>274</duration>
    <remote>
      <identity display="B &amp; C">sip:1002@example.com</identity>
      <target uri="sip:1002@192.0.2.9"><param pname="+sip.rendering" pvalue="no"/></target>
    </remote>
    <x:extra xmlns:x="urn:x"/>
  </dialog>
</dialog-info>"#;
    let expected = Call {
        id: "0_255@192.0.2.1".into(),
        state: CallState::Terminated,
        direction: Some(Direction::Recipient),
        call_id: "0_255@192.0.2.1".into(),
        local_tag: "a".into(),
        remote_tag: "b".into(),
        local: Party::default(),
        remote: Party {
            identity: "sip:1002@example.com".into(),
            display: "B & C".into(),
            target: "sip:1002@192.0.2.9".into(),
            held: true,
        },
        event: "cancelled".into(),
        extensions: vec![ForeignElement(r#"<x:extra xmlns:x="urn:x"/>"#.into())],
    };
    assert_eq!(
        publish("dialog", body),
        Ok(Published::Dialogs {
            calls: vec![expected],
            partial: true
        })
    );
}

//= RFC 7463 5 type=test
#[test]
fn the_appearance_of_a_shared_line_passes_through() {
    let appearance =
        r#"<sa:appearance xmlns:sa="urn:ietf:params:xml:ns:sa-dialog-info">2</sa:appearance>"#;
    let mut call = Call::bare("1", CallState::Trying);
    call.extensions = vec![ForeignElement(appearance.into())];
    let snapshot = of_calls(vec![call.clone()]);
    let text = document("dialog", 0, &snapshot, &RenderOptions::default());
    assert!(text.contains(appearance));
    assert_eq!(
        read_back("dialog", &snapshot, &RenderOptions::default()),
        Published::Dialogs {
            calls: vec![call],
            partial: false
        }
    );
    let withheld = RenderOptions {
        withhold_details: true,
        ..RenderOptions::default()
    };
    assert!(!document("dialog", 0, &snapshot, &withheld).contains("appearance"));
}

#[test]
fn a_prefix_for_the_namespace_is_understood_too() {
    let body = r#"<d:dialog-info xmlns:d="urn:ietf:params:xml:ns:dialog-info" state="full">
        <d:dialog id="1"><d:state>trying</d:state></d:dialog></d:dialog-info>"#;
    assert_eq!(
        publish("dialog", body),
        Ok(Published::Dialogs {
            calls: vec![Call::bare("1", CallState::Trying)],
            partial: false
        })
    );
}

#[test]
fn a_state_is_understood_in_any_case_because_kamailio_writes_one_with_a_capital() {
    let body = r#"<dialog-info xmlns="urn:ietf:params:xml:ns:dialog-info" version="0" state="full" entity="sip:1@x">
        <dialog id="1"><state>Trying</state></dialog></dialog-info>"#;
    assert_eq!(
        publish("dialog", body),
        Ok(Published::Dialogs {
            calls: vec![Call::bare("1", CallState::Trying)],
            partial: false
        })
    );
}

//= RFC 3903 6 type=test
#[test]
fn what_is_not_a_dialog_document_is_refused() {
    let wrapped = |inner: &str| {
        format!(r#"<dialog-info xmlns="urn:ietf:params:xml:ns:dialog-info">{inner}</dialog-info>"#)
    };
    let too_many = "<dialog id='1'><state>early</state></dialog>"
        .repeat(crate::config::limits::CALLS_PER_RESOURCE + 1);
    for body in [
        "".to_owned(),
        "<dialog-info/>".to_owned(),
        r#"<presence xmlns="urn:ietf:params:xml:ns:pidf"/>"#.to_owned(),
        wrapped("").replace('>', " state='other'>"),
        wrapped("<dialog><state>early</state></dialog>"),
        wrapped("<dialog id='1'/>"),
        wrapped("<dialog id='1'><state>ringing</state></dialog>"),
        wrapped("<dialog id='1' direction='up'><state>early</state></dialog>"),
        wrapped(&too_many),
    ] {
        assert!(publish("dialog", &body).is_err(), "{body:.200}");
    }
}

fn a_party() -> impl Strategy<Value = Party> {
    let word = || "[a-z<&>\"' \u{e4}]{0,12}";
    (word(), word(), word(), any::<bool>()).prop_map(|(identity, display, target, held)| Party {
        identity: identity.trim().into(),
        display: display.trim().into(),
        target: target.trim().into(),
        held,
    })
}

prop_compose! {
    fn a_call()(
        number in 0..1000u32,
        state in 0..4usize,
        direction in 0..3usize,
        (call_id, local_tag, remote_tag) in ("[!-~]{0,12}", "[!-~]{0,8}", "[!-~]{0,8}"),
        mut local in a_party(),
        mut remote in a_party(),
    ) -> Call {
        for party in [&mut local, &mut remote] {
            // What a document adds so that it is valid: an identity for a display name, a target for a hold.
            if party.identity.is_empty() {
                party.display = Box::default();
            }
            if party.held && party.target.is_empty() {
                party.target = "sip:x".into();
            }
        }
        Call {
            id: number.to_string().into(),
            state: CallState::ALL[state],
            direction: [None, Some(Direction::Initiator), Some(Direction::Recipient)][direction],
            call_id: call_id.into(),
            local_tag: local_tag.into(),
            remote_tag: remote_tag.into(),
            local,
            remote,
            event: "".into(),
        extensions: vec![],
        }
    }
}

proptest! {
    #[test]
    fn what_a_document_tells_is_read_back_from_it(calls in proptest::collection::vec(a_call(), 1..5)) {
        let read = read_back("dialog", &of_calls(calls.clone()), &all_dialogs());
        prop_assert_eq!(read, Published::Dialogs { calls, partial: false });
    }
}
