//! Random numbers, different in each run.

use uuid::Uuid;

pub fn below(bound: usize) -> usize {
    let bytes = Uuid::new_v4().into_bytes();
    let number = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    usize::try_from(number).expect("32 bits fit") % bound
}

/// True once in `times` on average.
pub fn one_in(times: usize) -> bool {
    below(times) == 0
}

/// A port to listen on. It may be in use: the caller then tries another. The range is below the
/// system's range of outgoing ports: otherwise a client that connects while the service is down
/// could get the service's port and connect to itself.
pub fn port() -> u16 {
    20_000 + u16::try_from(below(12_000)).expect("it is below 12000")
}
