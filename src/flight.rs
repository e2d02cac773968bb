//! The last events of a shard, kept in a ring for the day when somebody asks what led to this.
//! Recording one is a few stores; nothing is formatted until it is read.

use crate::time::Time;

/// One event: what `kind`, `a` and `b` mean is the recorder's matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    pub time: Time,
    pub kind: u16,
    pub a: u64,
    pub b: u64,
}

/// A ring of the last records.
#[derive(Debug)]
pub struct Flight {
    records: Box<[Record]>,
    /// How many were ever recorded.
    total: u64,
}

impl Flight {
    /// Keeps the last `length` records, at least one.
    pub fn new(length: usize) -> Self {
        assert!(length > 0, "a ring keeps at least one record");
        Flight {
            records: vec![Record::default(); length].into_boxed_slice(),
            total: 0,
        }
    }

    /// Records one event, forgetting the oldest if the ring is full.
    pub fn record(&mut self, time: Time, kind: u16, a: u64, b: u64) {
        let position = (self.total % self.records.len() as u64) as usize;
        self.records[position] = Record { time, kind, a, b };
        self.total += 1;
    }

    /// How many were ever recorded.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// What is kept, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Record> {
        let length = self.records.len() as u64;
        (self.total.saturating_sub(length)..self.total)
            .map(move |number| &self.records[(number % length) as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_records_are_kept_oldest_first() {
        let mut flight = Flight::new(3);
        assert_eq!(flight.iter().count(), 0);
        for number in 0..5 {
            flight.record(Time::from_millis(number), 1, number, 0);
        }
        let kept: Vec<u64> = flight.iter().map(|record| record.a).collect();
        assert_eq!((kept, flight.total()), (vec![2, 3, 4], 5));
    }
}
