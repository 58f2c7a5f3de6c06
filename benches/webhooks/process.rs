//! CPU time and memory of a process, from `/proc` (proc(5)).

use std::fs;
use std::time::Duration;

/// Linux's `USER_HZ`, which is the same on all machines.
const TICKS_PER_SECOND: u64 = 100;

/// CPU time of all its threads.
pub fn cpu_time(process: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("the process exists");
    // The name, in parentheses, may contain spaces.
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |index: usize| fields[index].parse::<u64>().expect("ticks");
    // `utime` and `stime`, fields 14 and 15 of the line; its first two are cut off.
    Duration::from_millis((ticks(11) + ticks(12)) * 1000 / TICKS_PER_SECOND)
}

/// Current and peak memory in MB.
pub fn memory_mb(process: u32) -> [f64; 2] {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("the process exists");
    ["VmRSS:", "VmHWM:"].map(|name| {
        let kilobytes = status.lines().find_map(|line| line.strip_prefix(name)).expect("the line exists");
        kilobytes.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") / 1024.0
    })
}
