//! What was sent against what arrived, to the datagram. A loss that a retransmission mended shows here and
//! nowhere else.

use super::Site;
use crate::report::Report;

/// The server's counters when the time that is judged began. The phones' begin at zero.
pub struct Ledger([u64; 5]);

impl Ledger {
    pub fn open(site: &Site<'_>) -> Self {
        Ledger(counted(site))
    }

    /// Nothing may be on its way any more.
    pub fn judge(&self, site: &Site<'_>, report: &mut Report) {
        let seen = &site.field.seen;
        let now = counted(site);
        let [requests, answers, responses, notifies, dropped] =
            std::array::from_fn(|index| now[index] - self.0[index]);
        let asked = seen.requests_sent + seen.requests_again;
        let lines = [
            ("requests of phones", asked, requests),
            ("phones' answers to NOTIFYs", seen.answers_sent, answers),
            ("answers to phones", responses, seen.answers_heard),
            ("NOTIFYs", notifies, seen.notifies_heard),
        ];
        let mut lost = 0;
        for (what, sent, arrived) in lines {
            report.count(&format!("{what}, sent"), sent);
            report.goal(
                &format!("{what}, lost"),
                sent as f64 - arrived as f64,
                "",
                0.0,
            );
            lost += sent.abs_diff(arrived);
        }
        // What the kernel had no room for is nobody's fault but the machine's, and counted where it is.
        let dropped = dropped + site.field.drops() + seen.datagrams_lost_on_purpose;
        if lost > dropped {
            let lines = lines.map(|(what, sent, arrived)| format!("{what}: {arrived} of {sent}"));
            report.problem(format!(
                "{lost} datagrams did not arrive, {dropped} of them for want of room: {}",
                lines.join(", ")
            ));
        }
    }
}

fn counted(site: &Site<'_>) -> [u64; 5] {
    let of = |name: &str, label: &str| site.server.metric_with(name, label).unwrap_or(0.0) as u64;
    let received = |outcome: &str| of("lampfield_datagrams_received_total", outcome);
    let notifies = |event: &str| of("lampfield_notifies_total", event);
    let failed = of("lampfield_responses_failed_total", "");
    [
        received("\"request\""),
        received("\"answer\""),
        of("lampfield_responses_sent_total", "") - failed,
        notifies("\"sent\"") + notifies("\"retransmitted\""),
        of("lampfield_kernel_total", "\"datagram_dropped\""),
    ]
}
