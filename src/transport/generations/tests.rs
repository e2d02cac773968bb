//! The plan of a swap: what each change of the configuration asks of the sockets.

use super::*;
use crate::transport::Transport;

const A: &str = "192.0.2.1:5060";
const B: &str = "192.0.2.2:5060";
const STAYS: Duration = Duration::from_secs(3632);

fn udp(address: &str) -> Endpoint {
    Endpoint {
        transport: Transport::Udp,
        address: address.parse().unwrap(),
    }
}

fn wanted(address: &str, fresh: bool) -> Wanted {
    Wanted {
        endpoint: udp(address),
        advertise: None,
        web: WebRules::default(),
        gate: 0,
        fresh,
    }
}

fn swap(generations: &mut Generations, now: Time, all: &[Wanted]) -> Plan {
    let plan = generations.plan(all);
    while let Some(closing) = generations.in_the_way(&plan) {
        generations.closed(closing);
    }
    let addresses: Vec<SocketAddr> = all.iter().map(|each| each.endpoint.address).collect();
    generations.activate(now, &plan, &addresses, STAYS);
    plan
}

fn stages(generations: &Generations) -> Vec<(u32, Stage)> {
    let of = |view: View| (view.id.0, view.stage);
    generations.views().map(of).collect()
}

fn busy(_: ListenerId) -> Leases {
    Leases {
        clients: 1,
        ..Leases::default()
    }
}

#[test]
fn the_first_generation_opens_everything() {
    let mut generations = Generations::new();
    let plan = swap(
        &mut generations,
        Time::ZERO,
        &[wanted(A, false), wanted(B, false)],
    );
    assert!(
        plan.listeners
            .iter()
            .all(|each| each.origin == Origin::Opened)
    );
    assert_eq!(generations.newest(), 1);
    assert_eq!(
        stages(&generations),
        [(0, Stage::Active), (1, Stage::Active)]
    );
    assert!(!generations.is_draining());
}

#[test]
fn an_address_that_stays_is_handed_over_or_replaced_and_one_that_goes_leaves() {
    let mut generations = Generations::new();
    let now = Time::from_millis(1_000);
    swap(&mut generations, now, &[wanted(A, false), wanted(B, false)]);
    let plan = swap(&mut generations, now, &[wanted(B, false)]);
    assert_eq!(plan.listeners[0].origin, Origin::HandedOver(ListenerId(1)));
    assert_eq!(
        stages(&generations),
        [
            (0, Stage::Leaving(ListenerId(2))),
            (1, Stage::Replaced(ListenerId(2))),
            (2, Stage::Active)
        ]
    );
    let plan = swap(&mut generations, now, &[wanted(B, true)]);
    assert_eq!(plan.listeners[0].origin, Origin::Replaces(ListenerId(2)));
    assert_eq!(
        generations.table().rows[0].stage,
        Stage::Leaving(ListenerId(3)),
        "who leaves goes to the newest"
    );
}

#[test]
fn a_draining_listener_is_closed_when_it_is_idle_or_late() {
    let mut generations = Generations::new();
    let start = Time::from_millis(1_000);
    swap(
        &mut generations,
        start,
        &[wanted(A, false), wanted(B, false)],
    );
    swap(&mut generations, start, &[wanted(B, true)]);
    assert_eq!(generations.closable(start, busy), None);
    let idle = |id: ListenerId| match id.0 {
        0 => Leases::default(),
        _ => busy(id),
    };
    let closing = generations.closable(start, idle).unwrap();
    assert_eq!((closing.id.0, closing.to.0, closing.why), (0, 2, Why::Idle));
    let late = generations.closable(start + T64, busy).unwrap();
    assert_eq!((late.id.0, late.to.0, late.why), (1, 2, Why::Deadline));
    let last = generations.closable(start + STAYS, busy).unwrap();
    assert_eq!((last.id.0, last.why), (0, Why::Deadline));
    generations.closed(last);
    generations.closed(late);
    assert_eq!(stages(&generations), [(2, Stage::Active)]);
    assert!(!generations.is_draining());
}

#[test]
fn no_third_generation_has_sockets_of_its_own_on_one_address() {
    let mut generations = Generations::new();
    let now = Time::ZERO;
    swap(&mut generations, now, &[wanted(A, false)]);
    swap(&mut generations, now, &[wanted(A, true)]);
    let plan = generations.plan(&[wanted(A, true)]);
    let in_the_way = generations.in_the_way(&plan).unwrap();
    assert_eq!((in_the_way.id.0, in_the_way.to.0), (0, 1));
    generations.closed(in_the_way);
    assert_eq!(generations.in_the_way(&plan), None);
    // A name without a socket of its own is in nobody's way.
    swap(&mut generations, now, &[wanted(A, false)]);
    let plan = generations.plan(&[wanted(A, true)]);
    assert_eq!(generations.in_the_way(&plan), None);
}

#[test]
fn an_address_that_comes_back_while_it_leaves_is_the_same_socket() {
    let mut generations = Generations::new();
    let both = [wanted(A, false), wanted(B, false)];
    swap(&mut generations, Time::ZERO, &both);
    swap(&mut generations, Time::ZERO, &both[1..]);
    let plan = swap(&mut generations, Time::ZERO, &both);
    assert_eq!(plan.listeners[0].origin, Origin::HandedOver(ListenerId(0)));
    let stage = |id: u32| {
        let found = stages(&generations)
            .into_iter()
            .find(|(each, _)| *each == id);
        found.map(|(_, stage)| stage)
    };
    assert_eq!(stage(0), Some(Stage::Replaced(plan.listeners[0].id)));
    assert_eq!(generations.standing().count(), 2);
}

#[test]
fn names_of_one_socket_do_not_pile_up() {
    let mut generations = Generations::new();
    for _ in 0..100 {
        swap(&mut generations, Time::ZERO, &[wanted(A, false)]);
        while let Some(closing) = generations.closable(Time::ZERO, busy) {
            assert_eq!(closing.why, Why::Crowded);
            assert!(closing.shared);
            generations.closed(closing);
        }
        assert!(generations.views().count() <= limits::DRAINING_PER_ADDRESS + 1);
    }
    // Whoever is left goes to who is there.
    let rows = generations.table().rows;
    for row in &rows {
        if let Stage::Replaced(by) = row.stage {
            assert!(rows.iter().any(|each| each.listener.id == by));
        }
    }
}

#[test]
fn those_who_leave_go_to_the_likest_address() {
    let mut generations = Generations::new();
    let six = "[2001:db8::1]:5070";
    swap(
        &mut generations,
        Time::ZERO,
        &[wanted(six, false), wanted(A, false)],
    );
    let next = ["192.0.2.7:5080", "[2001:db8::2]:5060", B].map(|each| wanted(each, false));
    swap(&mut generations, Time::ZERO, &next);
    let heirs: Vec<Stage> = stages(&generations)[..2]
        .iter()
        .map(|(_, stage)| *stage)
        .collect();
    assert_eq!(
        heirs,
        [Stage::Leaving(ListenerId(3)), Stage::Leaving(ListenerId(4))]
    );
}

#[test]
fn gates_are_numbered_anew_and_the_replaced_have_those_of_their_successors() {
    let mut generations = Generations::new();
    swap(
        &mut generations,
        Time::ZERO,
        &[wanted(A, false), wanted(B, false)],
    );
    swap(&mut generations, Time::ZERO, &[wanted(A, false)]);
    generations.set_gates(|id| match id.0 {
        1 => Some(7),
        2 => Some(4),
        _ => None,
    });
    let gates: Vec<u16> = generations
        .table()
        .rows
        .iter()
        .map(|row| row.listener.gate)
        .collect();
    assert_eq!(gates, [4, 7, 4]);
    let standing: Vec<ListenerId> = generations.standing().collect();
    assert_eq!(standing, [ListenerId(1), ListenerId(2)]);
    assert!(!generations.is_active(ListenerId(1)) && generations.is_active(ListenerId(2)));
}

/// The listeners that have to go before A can be replaced once more.
fn in_the_way(generations: &mut Generations) -> Vec<(u32, bool)> {
    let mut gone = Vec::new();
    let plan = generations.plan(&[wanted(A, true)]);
    while let Some(closing) = generations.in_the_way(&plan) {
        gone.push((closing.id.0, closing.shared));
        generations.closed(closing);
    }
    gone
}

#[test]
fn old_sockets_are_in_the_way_by_whatever_name_they_are_left_with() {
    let now = Time::ZERO;
    // 0 and 1 have one socket; 2 has another.
    let mut generations = Generations::new();
    for fresh in [false, false, true] {
        swap(&mut generations, now, &[wanted(A, fresh)]);
    }
    let closing = generations.closable(now, |id| match id.0 {
        1 => Leases::default(),
        _ => busy(id),
    });
    let closing = closing.expect("1 is idle");
    assert_eq!((closing.id.0, closing.shared), (1, false));
    generations.closed(closing);
    assert_eq!(in_the_way(&mut generations), [(0, false)]);
}

#[test]
fn old_sockets_are_in_the_way_also_behind_a_hand_over() {
    // 0 has a socket; 1 and 2 have another.
    let mut generations = Generations::new();
    for fresh in [false, true, false] {
        swap(&mut generations, Time::ZERO, &[wanted(A, fresh)]);
    }
    assert_eq!(in_the_way(&mut generations), [(0, false)]);
    // 0 and 1 have a socket; 2 and 3 have another.
    let mut generations = Generations::new();
    for fresh in [false, false, true, false] {
        swap(&mut generations, Time::ZERO, &[wanted(A, fresh)]);
    }
    assert_eq!(in_the_way(&mut generations), [(0, true), (1, false)]);
}

#[test]
fn old_sockets_are_in_the_way_also_of_an_address_that_went_and_came_again() {
    let now = Time::ZERO;
    // 0 and 1 have a socket each on A, and A goes away: 1 is closed before 0.
    let mut generations = Generations::new();
    for (address, fresh) in [(A, false), (A, true), (B, false)] {
        swap(&mut generations, now, &[wanted(address, fresh)]);
    }
    let closing = generations.closable(now, |id| match id.0 {
        1 => Leases::default(),
        _ => busy(id),
    });
    generations.closed(closing.expect("1 is idle"));
    swap(&mut generations, now, &[wanted(A, false)]);
    assert_eq!(in_the_way(&mut generations), [(0, false)]);
}
