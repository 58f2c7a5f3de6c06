//! What the kernel says of a process (proc(5)).

use std::fs;
use std::time::Duration;

/// Ticks of the clock in a second, by which Linux counts a process's time towards userland, whatever the machine.
const TICKS: u64 = 100;

/// The time that a process has had a core, its threads together.
pub fn cpu_time(process: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("the process is there");
    // The name, in parentheses, may have spaces in it.
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |index: usize| fields[index].parse::<u64>().expect("ticks");
    // Fields 14 and 15 of the whole line, of which two are before.
    Duration::from_millis((ticks(11) + ticks(12)) * 1000 / TICKS)
}

/// The memory that it has now, and the most that it ever had, in MB.
pub fn memory_mb(process: u32) -> [f64; 2] {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("the process is there");
    ["VmRSS:", "VmHWM:"].map(|name| {
        let kilobytes = status.lines().find_map(|line| line.strip_prefix(name)).expect("the line is there");
        kilobytes.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") / 1024.0
    })
}
