//! The table of the results.

use std::time::Duration;

/// Durations of one step's calls on both sides.
pub(crate) struct Row {
    pub(crate) what: &'static str,
    pub(crate) direct: Vec<Duration>,
    pub(crate) through: Vec<Duration>,
}

/// Below this many calls the 99th percentile is the slowest call.
const ENOUGH_FOR_P99: usize = 100;

/// A line a row, below two lines of headings.
pub(crate) fn render(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.what.len()).max().unwrap_or(0);
    let mut lines = vec![
        format!("{:width$}          direct, ms         by sidecar, ms      added", ""),
        format!("{:width$}  calls     p50      p99       p50      p99     p50, \u{b5}s", ""),
    ];
    for row in rows {
        let (direct, through) = (percentiles(&row.direct), percentiles(&row.through));
        let added = (through[0] - direct[0]) * 1000.0;
        lines.push(format!(
            "{:width$}  {:>5}  {:>6}  {:>7}    {:>6}  {:>7}  {added:>+9.0}",
            row.what,
            row.direct.len(),
            milliseconds(direct[0]),
            milliseconds(direct[1]),
            milliseconds(through[0]),
            milliseconds(through[1]),
        ));
    }
    if rows.iter().any(|row| row.direct.len() < ENOUGH_FOR_P99) {
        lines.push(format!("Calls are those of each side; with fewer than {ENOUGH_FOR_P99}, p99 is the slowest."));
    }
    lines.join("\n")
}

/// The 50th and the 99th, in milliseconds.
fn percentiles(durations: &[Duration]) -> [f64; 2] {
    let mut sorted = durations.to_vec();
    sorted.sort_unstable();
    [50, 99].map(|percent| {
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).map_or(f64::NAN, |duration| duration.as_secs_f64() * 1000.0)
    })
}

/// Three digits that count, or the whole part if it has more.
fn milliseconds(value: f64) -> String {
    let decimals = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.decimals$}")
}
