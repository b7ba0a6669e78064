//! The same for many things, several at once.

use std::sync::Mutex;
use std::sync::PoisonError;

/// How many at once: what is done here waits for the kernel more than it computes.
const WORKERS: usize = 4;

/// Does something with each item. The results are in the order of the items.
pub(crate) fn in_parallel<T: Send, R: Send>(items: Vec<T>, act: impl Fn(T) -> R + Sync) -> Vec<R> {
    let workers = WORKERS.min(items.len());
    let queue = Mutex::new(items.into_iter().enumerate());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || std::iter::from_fn(next).map(|(index, item)| (index, act(item))).collect::<Vec<_>>();
    let mut results: Vec<(usize, R)> = std::thread::scope(|scope| {
        let working: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let joined = working.into_iter().map(|worker| worker.join().expect("a worker that panicked has said why"));
        joined.flatten().collect()
    });
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_order() {
        for count in [0, 1, 3, 100] {
            let squares = in_parallel((0..count).collect(), |number: usize| number * number);
            assert_eq!(squares, (0..count).map(|number| number * number).collect::<Vec<_>>());
        }
    }
}
