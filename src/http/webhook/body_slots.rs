//! The webhooks whose bodies are on their way: nobody knows yet whether Stripe sent them, and anybody can send them
//! slowly.
//!
//! There is room for so many. Who comes when it is full is let in all the same, and the one that has been at it the
//! longest gives way, of the client that has the most. What Stripe sends is here for moments, so it is never the one, and
//! no crowd of slow senders keeps it out, not even one that shares its address.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::domain::client_address::ClientAddress;

/// Bodies that may be on their way at once, of a megabyte at most: so many megabytes that strangers can have us hold.
const ROOM: usize = 128;

/// The bodies on their way, the longest of them first.
#[derive(Debug, Default)]
pub(in crate::http) struct Bodies(Mutex<UnderWay>);

#[derive(Debug, Default)]
struct UnderWay {
    by_age: BTreeMap<u64, (ClientAddress, Arc<Notify>)>,
    next: u64,
}

/// The place of one of them.
#[derive(Debug)]
pub(in crate::http) struct Place<'a> {
    bodies: &'a Bodies,
    number: u64,
    gives_way: Arc<Notify>,
}

impl Bodies {
    /// Takes a place for a body.
    pub(in crate::http) fn enter(&self, client: ClientAddress) -> Place<'_> {
        let gives_way = Arc::new(Notify::new());
        let mut under_way = self.lock();
        let number = under_way.next;
        under_way.next += 1;
        under_way.by_age.insert(number, (client, gives_way.clone()));
        if under_way.by_age.len() > ROOM {
            under_way.make_room();
        }
        Place { bodies: self, number, gives_way }
    }

    fn lock(&self) -> MutexGuard<'_, UnderWay> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UnderWay {
    fn make_room(&mut self) {
        let mut crowds = HashMap::<ClientAddress, usize>::new();
        for (client, _) in self.by_age.values() {
            *crowds.entry(*client).or_default() += 1;
        }
        // Of equals the last is taken, and that is the longest here.
        let newest_first = self.by_age.iter().rev();
        let longest = newest_first.max_by_key(|(_, (client, _))| crowds[client]).map(|(number, _)| *number);
        if let Some((_, gives_way)) = longest.and_then(|number| self.by_age.remove(&number)) {
            gives_way.notify_one();
        }
    }
}

impl Place<'_> {
    /// Waits until somebody else needs the place.
    pub(in crate::http) async fn given_way(&self) {
        self.gives_way.notified().await;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.bodies.lock().by_age.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use futures_util::FutureExt;

    use super::*;

    fn client(number: u32) -> ClientAddress {
        IpAddr::from(Ipv4Addr::from_bits(number)).into()
    }

    fn has_given_way(place: &Place<'_>) -> bool {
        place.given_way().now_or_never().is_some()
    }

    #[test]
    fn who_comes_when_it_is_full_is_let_in_and_the_longest_of_the_largest_crowd_gives_way() {
        let bodies = Bodies::default();
        let stripe = bodies.enter(client(1));
        let crowd: Vec<_> = (1..ROOM).map(|_| bodies.enter(client(2))).collect();
        let more = [client(1), client(3)].map(|client| bodies.enter(client));
        assert!(!has_given_way(&stripe), "however long it takes");
        assert!(more.iter().all(|place| !has_given_way(place)));
        let gave_way: Vec<_> = crowd.iter().map(has_given_way).collect();
        assert!(gave_way[..2].iter().all(|gave_way| *gave_way));
        assert!(gave_way[2..].iter().all(|gave_way| !gave_way));
    }

    #[test]
    fn in_a_crowd_of_one_address_the_longest_gives_way() {
        let bodies = Bodies::default();
        let places: Vec<_> = (0..=ROOM).map(|_| bodies.enter(client(1))).collect();
        let gave_way: Vec<_> = places.iter().map(has_given_way).collect();
        assert_eq!(gave_way.iter().position(|gave_way| *gave_way), Some(0));
        assert_eq!(gave_way.iter().filter(|gave_way| **gave_way).count(), 1);
    }

    #[test]
    fn who_has_left_takes_no_place() {
        let bodies = Bodies::default();
        for _ in 0..3 {
            let places: Vec<_> = (0..ROOM).map(|_| bodies.enter(client(1))).collect();
            assert!(places.iter().all(|place| !has_given_way(place)));
        }
        assert!(bodies.lock().by_age.is_empty());
    }
}
