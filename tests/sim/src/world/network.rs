//! The network between phones and server: it loses, doubles, delays and reorders, or it is calm.

use std::time::Duration;

use crate::random::Random;

/// How bad it is right now, both ways.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    pub lost_per_mille: u64,
    pub doubled_per_mille: u64,
    pub delay_least_ms: u64,
    pub delay_most_ms: u64,
    /// Sends that the kernel refuses.
    pub refused_per_mille: u64,
}

impl Weather {
    /// The longest way that a datagram takes when it is calm.
    pub const CALM_DELAY: Duration = Duration::from_millis(20);

    /// Everything arrives, and soon.
    pub fn calm() -> Self {
        Weather {
            lost_per_mille: 0,
            doubled_per_mille: 0,
            delay_least_ms: 1,
            delay_most_ms: Self::CALM_DELAY.as_millis() as u64,
            refused_per_mille: 0,
        }
    }

    /// Some seed's bad day.
    pub fn stormy(random: &mut Random) -> Self {
        let delay_least_ms = *random.pick(&[0, 1, 5, 30]);
        Weather {
            lost_per_mille: *random.pick(&[0, 10, 50, 150, 300, 500]),
            doubled_per_mille: *random.pick(&[0, 5, 50, 200]),
            delay_least_ms,
            delay_most_ms: delay_least_ms + *random.pick(&[0, 10, 60, 300, 1200]),
            refused_per_mille: *random.pick(&[0, 0, 0, 20, 100]),
        }
    }

    /// When each copy of one datagram arrives, if any does.
    pub fn arrivals(&self, random: &mut Random) -> Vec<Duration> {
        let copies = match random.per_mille(self.doubled_per_mille) {
            true => 2,
            false => 1,
        };
        let mut arrivals = Vec::new();
        for _ in 0..copies {
            if !random.per_mille(self.lost_per_mille) {
                arrivals.push(random.millis(self.delay_least_ms, self.delay_most_ms));
            }
        }
        arrivals
    }
}
