//! What the quickstart prints while it goes on. Output that nobody reads any more (`| head`) is no reason to stop.

use std::fmt::Display;
use std::io::{Write as _, stdout};
use std::time::Instant;

/// Prints a line.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(stdout(), "{line}");
}

/// A step that may take longer than a second: its name is there at once, how long it took when it is done.
pub(crate) struct Task(Instant);

impl Task {
    pub(crate) fn begin(what: impl Display) -> Task {
        let _ = write!(stdout(), "{what} ...").and_then(|()| stdout().flush());
        Task(Instant::now())
    }

    pub(crate) fn end(self) {
        say(format_args!(" {:.1} s", self.0.elapsed().as_secs_f64()));
    }
}
