//! Which data keys may still be under way: values that were sealed and whose fate the server has not told. It seals nothing and
//! destroys nothing; [`crate::keystore`] tells the others what is found out here, and waits for what they tell
//! (docs/decisions/0148).
//!
//! Whoever seals holds a [`Flight`] from before it asks for the key until the server has said what became of the values. Flights
//! are marked: from time to time a new mark begins, and when nobody holds an older one, all that was sealed before is at its end.

use std::sync::{
    Arc, Mutex, PoisonError, Weak,
    atomic::{AtomicBool, Ordering},
};

use arc_swap::ArcSwap;

/// Held by whoever seals. Cheap to clone; the oldest one counts.
#[derive(Clone, Debug)]
#[must_use = "what is sealed without it is under way and nobody knows"]
pub struct Flight {
    _mark: Arc<Mark>,
}

/// Its address is all that it is.
#[derive(Debug, Default)]
struct Mark;

/// All flights of this process.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    current: ArcSwap<Mark>,
    /// Marks that are over for new flights, while somebody holds them.
    past: Mutex<Vec<Weak<Mark>>>,
    /// Whether there ever was one.
    begun: AtomicBool,
}

impl Flights {
    pub(crate) fn enter(&self) -> Flight {
        if !self.begun.load(Ordering::Relaxed) {
            self.begun.store(true, Ordering::SeqCst);
        }
        Flight {
            _mark: self.current.load_full(),
        }
    }

    /// Whether anything was ever sealed here.
    fn begun(&self) -> bool {
        self.begun.load(Ordering::SeqCst)
    }

    /// Flights that begin from now on bear a new mark.
    fn turn(&self) {
        let before = self.current.swap(Arc::default());
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        past.push(Arc::downgrade(&before));
    }

    /// Whether all flights are over that bear an older mark than the present one: for [`Following::step`], before retired keys
    /// are let go of.
    pub(crate) fn is_over(&self) -> bool {
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        past.retain(|mark| mark.strong_count() > 0);
        past.is_empty()
    }
}

/// Up to which record of the audit log this process has followed: no key that was retired by then seals here, and nothing that
/// such a key sealed is under way.
///
/// It takes two marks. Who began before the first may be loading a key that has been retired meanwhile, and leave it in the
/// cache; once they are over, the cache is cleared of retired keys, and only those who began before the second may have one of them.
#[derive(Debug, Default)]
pub(crate) struct Following {
    /// As the others are told; `None`: it was never looked.
    floor: Option<u64>,
    step: Step,
}

#[derive(Debug, Default)]
enum Step {
    #[default]
    Idle,
    /// Those who may load a key that was retired by this record, or have one.
    Loading(u64),
    /// Those who may have found one in the cache.
    Holding(u64),
}

impl Following {
    /// One look. `head` is the audit log's last record, read before the look; `is_over` was asked for then too. Retired keys were let go of since.
    /// Answers what there is to tell.
    pub(crate) fn step(&mut self, flights: &Flights, head: u64, is_over: bool) -> Option<u64> {
        let Some(floor) = self.floor else {
            // Who has never sealed has loaded nothing before it saw the head.
            self.floor = Some(if flights.begun() { 0 } else { head });
            return self.floor;
        };
        match self.step {
            Step::Idle if head > floor => {
                flights.turn();
                self.step = Step::Loading(head);
                None
            }
            Step::Loading(until) if is_over => {
                flights.turn();
                self.step = Step::Holding(until);
                None
            }
            Step::Holding(until) if is_over => {
                self.step = Step::Idle;
                self.floor = Some(until);
                self.floor
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(following: &mut Following, flights: &Flights, head: u64) -> Option<u64> {
        let is_over = flights.is_over();
        following.step(flights, head, is_over)
    }

    #[test]
    fn who_has_never_sealed_has_followed() {
        let (flights, mut following) = (Flights::default(), Following::default());
        assert_eq!(look(&mut following, &flights, 7), Some(7));
        assert_eq!(look(&mut following, &flights, 7), None, "nothing is new");
    }

    #[test]
    fn who_may_have_sealed_before_the_first_look_has_not() {
        let (flights, mut following) = (Flights::default(), Following::default());
        let flight = flights.enter();
        assert_eq!(look(&mut following, &flights, 7), Some(0));
        drop(flight);
        assert_eq!(look(&mut following, &flights, 7), None);
        assert_eq!(look(&mut following, &flights, 7), None);
        assert_eq!(look(&mut following, &flights, 7), Some(7));
    }

    #[test]
    fn what_is_under_way_is_waited_for_twice() {
        let (flights, mut following) = (Flights::default(), Following::default());
        look(&mut following, &flights, 1);
        let loads = flights.enter();
        assert_eq!(look(&mut following, &flights, 5), None);
        let finds = flights.enter();
        for _ in 0..3 {
            assert_eq!(look(&mut following, &flights, 6), None, "a load may run");
        }
        drop(loads);
        assert_eq!(look(&mut following, &flights, 6), None);
        let later = flights.enter();
        for _ in 0..3 {
            assert_eq!(
                look(&mut following, &flights, 6),
                None,
                "it may hold the key"
            );
        }
        drop(finds);
        assert_eq!(
            look(&mut following, &flights, 6),
            Some(5),
            "not what came after"
        );
        drop(later);
    }
}
