use std::sync::OnceLock;
use std::time::Duration;

use idm_types::{Timestamp, TraceId};

use crate::Counter;
use crate::exemplar::{Exemplar, Place};

/// The upper limits of the buckets, in microseconds.
const LIMITS_US: [u64; 15] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    10_000_000,
];
const BUCKETS: usize = LIMITS_US.len() + 1;

/// How often durations of each order occurred. One thread observes, every thread may read.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Counter; BUCKETS],
    us: Counter,
    /// The last traced observation of each bucket; allocated for the first one.
    exemplars: OnceLock<Box<[Place; BUCKETS]>>,
}

impl Histogram {
    /// Observes one duration that ended at `now`, with the trace that it is part of.
    pub fn observe(&self, duration: Duration, trace: Option<(TraceId, Timestamp)>) {
        let us = duration.as_micros() as u64;
        let position = LIMITS_US.partition_point(|limit| *limit < us);
        self.us.add(us);
        if let Some(bucket) = self.buckets.get(position) {
            bucket.add(1);
        }
        if let Some((trace, now)) = trace {
            let place = self.exemplars.get_or_init(Box::default).get(position);
            place.inspect(|place| place.put(Exemplar { trace: trace.into(), us, time: now.0 }));
        }
    }

    /// Adds what was observed to the sums of other cores.
    pub fn add_to(&self, sums: &mut Sums) {
        sums.us += self.us.get();
        for (sum, bucket) in sums.buckets.iter_mut().zip(&self.buckets) {
            *sum += bucket.get();
        }
        let places = self.exemplars.get().map(|places| places.iter()).into_iter().flatten();
        for (newest, place) in sums.exemplars.iter_mut().zip(places) {
            let read = place.get().filter(|read| newest.is_none_or(|newest| newest.time <= read.time));
            *newest = read.or(*newest);
        }
    }
}

/// The sums of several histograms.
#[derive(Clone, Debug, Default)]
pub struct Sums {
    buckets: [u64; BUCKETS],
    exemplars: [Option<Exemplar>; BUCKETS],
    us: u64,
}

impl Sums {
    /// The buckets from the lowest, each with its upper limit in seconds (infinite in the last), the number of
    /// observations up to the limit, and an exemplar between the limit before and this one.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64, Option<Exemplar>)> {
        let limits = LIMITS_US.iter().map(|us| *us as f64 / 1e6).chain([f64::INFINITY]);
        let up_to = self.buckets.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        limits.zip(up_to).zip(self.exemplars).map(|((limit, up_to), exemplar)| (limit, up_to, exemplar))
    }

    /// The sum of all durations in seconds.
    pub fn seconds(&self) -> f64 {
        self.us as f64 / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_up_to_the_limits_that_it_does_not_exceed() {
        let histogram = Histogram::default();
        let trace = TraceId::of_traceparent(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
        histogram.observe(Duration::from_micros(100), None);
        histogram.observe(Duration::from_micros(101), Some((trace, Timestamp(7))));
        histogram.observe(Duration::from_secs(11), None);
        let mut sums = Sums::default();
        histogram.add_to(&mut sums);
        histogram.add_to(&mut sums);
        let found: Vec<_> = sums.buckets().collect();
        let exemplar = Exemplar { trace: trace.into(), us: 101, time: 7 };
        assert_eq!(found[..2], [(0.0001, 2, None), (0.00025, 4, Some(exemplar))]);
        assert_eq!(found[14..], [(10.0, 4, None), (f64::INFINITY, 6, None)]);
        assert_eq!(sums.seconds(), 22.000402);
    }
}
