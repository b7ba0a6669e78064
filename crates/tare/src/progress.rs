//! How a pull goes, in Docker's words: lines that change in place on a terminal, one line a step elsewhere.

use crate::flags::bytes;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tare_engine::image::{PullEvent, PullProgress, Pulled};
use tare_spec::Digest;

/// Shows nothing.
pub(crate) struct Silent;

impl PullProgress for Silent {
    fn event(&self, _: PullEvent<'_>) {}
}

/// Shows a pull.
pub(crate) struct Progress(Mutex<Display>);

struct Display {
    out: Box<dyn Write + Send>,
    terminal: bool,
    layers: Vec<(Digest, String)>,
    /// Layer lines on the terminal now, above the cursor.
    drawn: usize,
    last_drawn: Option<Instant>,
}

/// A person does not read faster, and a slow terminal must not slow the pull down.
const REDRAW: Duration = Duration::from_millis(80);

impl Progress {
    /// A display on `out`, which may be a terminal.
    pub(crate) fn new(out: Box<dyn Write + Send>, terminal: bool) -> Self {
        Self(Mutex::new(Display { out, terminal, layers: Vec::new(), drawn: 0, last_drawn: None }))
    }

    /// Shows what the pull came to.
    pub(crate) fn finish(&self, pulled: &Pulled) {
        self.with(|display| {
            display.draw();
            let status = if pulled.up_to_date { "Image is up to date for" } else { "Downloaded newer image for" };
            let name = pulled.reference.familiar();
            display.write(&format!("Digest: {}\nStatus: {status} {name}\n", pulled.digest));
        });
    }

    fn with(&self, act: impl FnOnce(&mut Display)) {
        // A panic of another thread while it drew leaves at worst a crooked line.
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl PullProgress for Progress {
    fn event(&self, event: PullEvent<'_>) {
        self.with(|display| match event {
            PullEvent::Resolving(reference) => {
                let version = match (reference.tag(), reference.digest()) {
                    (_, Some(digest)) => digest.to_string(),
                    (tag, None) => tag.unwrap_or("latest").to_owned(),
                };
                // Docker names the repository as its registry does, without the registry.
                display.write(&format!("{version}: Pulling from {}\n", reference.repository()));
            }
            PullEvent::Exists(layer) => display.step(layer, "Already exists"),
            PullEvent::Waiting(layer) => display.step(layer, "Pulling fs layer"),
            PullEvent::Progress { layer, current, total } => display.advance(layer, current, total),
            PullEvent::Complete(layer) => display.step(layer, "Pull complete"),
        });
    }
}

impl Display {
    /// A layer reached a step that is worth a line.
    fn step(&mut self, layer: &Digest, text: &str) {
        if !self.terminal {
            self.write(&format!("{}: {text}\n", layer.short()));
        } else if self.set(layer, text.to_owned()) {
            self.draw();
        }
    }

    /// A layer grew.
    fn advance(&mut self, layer: &Digest, current: u64, total: u64) {
        if !self.terminal {
            return;
        }
        let width = 50;
        let done = (current.min(total) * width).checked_div(total).unwrap_or(width);
        let bar: String = (0..width)
            .map(|at| match at.cmp(&done) {
                std::cmp::Ordering::Less => '=',
                std::cmp::Ordering::Equal => '>',
                std::cmp::Ordering::Greater => ' ',
            })
            .collect();
        let (current, total) = (bytes::show(current), bytes::show(total));
        self.set(layer, format!("Downloading [{bar}]  {current}/{total}"));
        if self.last_drawn.is_none_or(|last| last.elapsed() >= REDRAW) {
            self.draw();
        }
    }

    /// Sets a layer's text and tells whether it changed.
    fn set(&mut self, layer: &Digest, text: String) -> bool {
        match self.layers.iter_mut().find(|(known, _)| known == layer) {
            Some((_, old)) if *old == text => false,
            Some((_, old)) => {
                *old = text;
                true
            }
            None => {
                self.layers.push((layer.clone(), text));
                true
            }
        }
    }

    fn draw(&mut self) {
        if !self.terminal || self.layers.is_empty() {
            return;
        }
        let mut text = String::new();
        if self.drawn > 0 {
            text.push_str(&format!("\x1b[{}A", self.drawn));
        }
        for (layer, state) in &self.layers {
            text.push_str(&format!("\x1b[2K{}: {state}\r\n", layer.short()));
        }
        self.drawn = self.layers.len();
        self.last_drawn = Some(Instant::now());
        self.write(&text);
    }

    /// The image is what counts: a display that nobody reads any more does not end a pull.
    fn write(&mut self, text: &str) {
        let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn shown(terminal: bool) -> String {
        let out = Shared::default();
        let progress = Progress::new(Box::new(out.clone()), terminal);
        let reference = tare_spec::reference::Reference::parse("nginx").unwrap().with_default_tag();
        let (one, two) = (Digest::from_sha256([1; 32]), Digest::from_sha256([2; 32]));
        progress.event(PullEvent::Resolving(&reference));
        progress.event(PullEvent::Exists(&one));
        progress.event(PullEvent::Waiting(&two));
        progress.event(PullEvent::Progress { layer: &two, current: 500, total: 1000 });
        progress.event(PullEvent::Complete(&two));
        let bytes = out.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn without_a_terminal_each_step_is_a_line() {
        assert_eq!(
            shown(false),
            "latest: Pulling from library/nginx\n010101010101: Already exists\n020202020202: Pulling fs layer\n020202020202: Pull complete\n"
        );
    }

    #[test]
    fn on_a_terminal_lines_change_in_place() {
        let text = shown(true);
        assert!(text.ends_with("\x1b[2A\x1b[2K010101010101: Already exists\r\n\x1b[2K020202020202: Pull complete\r\n"));
    }
}
