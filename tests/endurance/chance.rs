//! What is left to chance: a run is not like the one before.

use uuid::Uuid;

/// A number below `bound`.
pub fn below(bound: usize) -> usize {
    let bytes = Uuid::new_v4().into_bytes();
    let number = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    usize::try_from(number).expect("32 bits fit") % bound
}

/// Once in so many times.
pub fn one_in(times: usize) -> bool {
    below(times) == 0
}

/// A port to listen on. One cannot be reserved for somebody who comes later, so whoever takes it may find it taken, and
/// asks again. The range lies below the one from which the system serves outgoing connections: while the service is
/// away, a client that tries to reach it could be given its port, and would talk to itself.
pub fn port() -> u16 {
    20_000 + u16::try_from(below(12_000)).expect("it is below 12000")
}
