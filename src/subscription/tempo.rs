//! How often a watcher wants to be told (RFC 6446): no more often than so, and no more seldom. Its phone's own pace and this
//! hold together, and the slower one wins. It touches no timer: the deadline of its subscription serves both.

use core::time::Duration;

use crate::config::limits;
use crate::sip::{Params, Writer};
use crate::time::Time;

/// A rate in ten-thousandths of a NOTIFY per second: what four digits after the point can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PerSecond(u32);

/// One in a second.
const ONE: u32 = 10_000;

/// What the Event header field of a SUBSCRIBE asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    pub max: Option<PerSecond>,
    pub min: Option<PerSecond>,
    pub adaptive_min: Option<PerSecond>,
}

/// The rates of one subscription, and when it was told last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tempo {
    rates: Rates,
    /// When the last NOTIFY was sent; None: none was by this process.
    told_at: Option<Time>,
    /// When something has to be told if nothing is sent before: a change that waits, or the state as it is. A deadline runs
    /// for it.
    due: Option<Time>,
    /// A change waits for that.
    waits: bool,
}

impl PerSecond {
    /// `0.2`, `12`, `.5` is none: one or two digits, and up to ten after a point. None: it is no rate, or nothing at all.
    //= RFC 6446 9.1
    fn parse(text: &[u8]) -> Option<PerSecond> {
        let mut parts = text.splitn(2, |byte| *byte == b'.');
        let (whole, fraction) = (parts.next()?, parts.next());
        let are_digits = |digits: &[u8], most: usize| {
            (1..=most).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit)
        };
        if !are_digits(whole, 2) || !fraction.is_none_or(|digits| are_digits(digits, 10)) {
            return None;
        }
        let padding = b"0000";
        let places = fraction.unwrap_or(b"").iter().chain(padding).take(4);
        let digits = whole.iter().chain(places);
        let rate = digits.fold(0, |rate, digit| rate * 10 + u32::from(digit - b'0'));
        (rate > 0).then_some(PerSecond(rate))
    }

    /// Between one NOTIFY and the next.
    fn interval(self) -> Duration {
        Duration::from_secs(1) * ONE / self.0
    }

    /// As it was asked for, to four digits after the point.
    fn write(self, writer: &mut Writer<'_>) {
        writer.decimal(self.0 / ONE);
        let mut rest = self.0 % ONE;
        if rest > 0 {
            writer.put(b".");
        }
        let mut place = ONE / 10;
        while rest > 0 {
            writer.decimal(rest / place);
            rest %= place;
            place /= 10;
        }
    }
}

impl Rates {
    /// What the parameters of Event say. What cannot be a rate says nothing; nobody is told more often than the limit.
    //= RFC 6446 9.1
    pub fn read(params: &Params<'_>) -> Rates {
        let rate = |name| params.value(name).and_then(PerSecond::parse);
        let bounded = |rate: PerSecond| rate.min(PerSecond(ONE / limits::MIN_RATE_SECONDS));
        Rates {
            max: rate("max-rate"),
            min: rate("min-rate").map(bounded),
            adaptive_min: rate("adaptive-min-rate").map(bounded),
        }
    }

    /// As numbers of ten-thousandths, for a record.
    pub fn numbers(&self) -> [Option<u32>; 3] {
        [self.max, self.min, self.adaptive_min].map(|rate| rate.map(|PerSecond(number)| number))
    }

    /// From what [`Rates::numbers`] gave.
    pub fn from_numbers(numbers: [Option<u32>; 3]) -> Rates {
        let rate = |number: Option<u32>| number.filter(|number| *number > 0).map(PerSecond);
        let [max, min, adaptive_min] = numbers.map(rate);
        Rates {
            max,
            min,
            adaptive_min,
        }
    }

    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        *self == Rates::default()
    }

    /// What Subscription-State says of it.
    //= RFC 6446 9.2
    pub fn write(&self, writer: &mut Writer<'_>) {
        let parts: [(&[u8], _); 3] = [
            (b";max-rate=", self.max),
            (b";min-rate=", self.min),
            (b";adaptive-min-rate=", self.adaptive_min),
        ];
        for (name, rate) in parts {
            if let Some(rate) = rate {
                writer.put(name);
                rate.write(writer);
            }
        }
    }
}

impl Tempo {
    /// With these rates; the first NOTIFY goes at once.
    pub fn new(rates: Rates) -> Tempo {
        Tempo {
            rates,
            told_at: None,
            due: None,
            waits: false,
        }
    }

    /// What was asked for.
    pub fn rates(&self) -> &Rates {
        &self.rates
    }

    /// A NOTIFY is sent, or need not be as the phone knows the state.
    //= RFC 6446 6.3
    pub fn told(&mut self, now: Time) {
        self.told_at = Some(now);
        self.waits = false;
        // No more often than the highest rate allows.
        let lowest = self.rates.min.max(self.rates.adaptive_min);
        let lowest = lowest.map(|rate| self.rates.max.map_or(rate, |max| rate.min(max)));
        self.due = lowest.map(|rate| now + rate.interval());
    }

    /// Whether a change may be told now. If not, it waits until it is due.
    //= RFC 6446 5.3
    pub fn may_tell(&mut self, now: Time) -> bool {
        let (Some(told_at), Some(rate)) = (self.told_at, self.rates.max) else {
            return true;
        };
        let free = told_at + rate.interval();
        if now >= free {
            return true;
        }
        self.waits = true;
        self.due = Some(self.due.map_or(free, |due| due.min(free)));
        false
    }

    /// When something has to be told.
    pub fn due(&self) -> Option<Time> {
        self.due
    }

    /// Whether a change waits for that.
    pub fn waits(&self) -> bool {
        self.waits
    }

    /// Whether that time has come; it comes once.
    pub fn fire(&mut self, now: Time) -> bool {
        let fires = self.due.is_some_and(|due| due <= now);
        if fires {
            self.due = None;
            self.waits = false;
        }
        fires
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::EventHeader;

    fn rates(event: &str) -> Rates {
        let event = EventHeader::parse(event.as_bytes()).expect("an event");
        Rates::read(&event.params)
    }

    fn shown(event: &str) -> String {
        let mut room = [0; 200];
        let mut writer = Writer::new(&mut room);
        rates(event).write(&mut writer);
        let length = writer.finish().expect("there is room");
        String::from_utf8(room[..length].to_vec()).expect("a text")
    }

    //= RFC 6446 9.1 type=test
    //= RFC 6446 9.2 type=test
    #[test]
    fn rates_are_read_and_said_again_and_nonsense_is_left_out() {
        assert_eq!(shown("dialog;max-rate=0.2"), ";max-rate=0.2");
        assert_eq!(shown("dialog;max-rate=12"), ";max-rate=12");
        assert_eq!(shown("dialog;max-rate=0.012345"), ";max-rate=0.0123");
        assert_eq!(shown("dialog;max-rate=1.05"), ";max-rate=1.05");
        let all = "dialog;id=1;min-rate=0.05;adaptive-min-rate=0.02;max-rate=3.0";
        assert_eq!(
            shown(all),
            ";max-rate=3;min-rate=0.05;adaptive-min-rate=0.02"
        );
        for nothing in ["0", "0.0", "100", "1.", ".5", "x", "0.00001", "1e3"] {
            assert_eq!(
                shown(&format!("dialog;max-rate={nothing}")),
                "",
                "{nothing}"
            );
        }
        // Nobody asks for more than a NOTIFY in so many seconds where nothing changes.
        assert_eq!(shown("dialog;min-rate=50"), ";min-rate=0.1");
    }

    //= RFC 6446 5.3 type=test
    #[test]
    fn a_change_waits_for_its_time_and_silence_ends_at_its_own() {
        let at = |seconds: u64| Time::from_millis(1_000 * seconds);
        let told = |event, seconds| {
            let mut tempo = Tempo::new(rates(event));
            assert!(tempo.may_tell(at(seconds)), "the first goes at once");
            tempo.told(at(seconds));
            tempo
        };
        let mut tempo = told("dialog;max-rate=0.2;min-rate=0.05", 100);
        assert_eq!(tempo.due(), Some(at(120)));
        assert!(!tempo.may_tell(at(104)) && tempo.waits());
        assert_eq!(tempo.due(), Some(at(105)));
        assert!(!tempo.fire(at(104)) && tempo.fire(at(105)));
        assert!(!tempo.fire(at(106)), "once");
        assert!(tempo.may_tell(at(106)));
        tempo.told(at(106));
        assert_eq!(tempo.due(), Some(at(126)));
        // The slower one wins.
        assert_eq!(
            told("dialog;max-rate=0.01;min-rate=0.1", 100).due(),
            Some(at(200))
        );
        assert_eq!(told("dialog;max-rate=0.01", 100).due(), None);
        let both = told("dialog;adaptive-min-rate=0.05;min-rate=0.1", 100);
        assert_eq!(both.due(), Some(at(110)));
    }
}
