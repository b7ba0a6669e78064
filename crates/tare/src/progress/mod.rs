//! How pulls and pushes go, in Docker's words.

pub(crate) mod build;
mod paint;
mod region;
#[cfg(test)]
mod screen;

use paint::{Painter, State};
use region::AskSize;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use tare_engine::image::{PullEvent, PullProgress, Pulled, PushEvent, PushProgress};
use tare_spec::{Digest, Reference};

/// Shows nothing.
pub(crate) struct Silent;

impl PullProgress for Silent {
    fn event(&self, _: PullEvent<'_>) {}
}

impl PushProgress for Silent {
    fn event(&self, _: PushEvent<'_>) {}
}

/// Shows what happens to layers.
pub(crate) struct Progress(Mutex<Painter>);

impl Progress {
    /// A display on `out`, which may be a terminal.
    pub(crate) fn new(out: Box<dyn Write + Send>, terminal: bool) -> Self {
        let size = terminal.then_some(crate::terminal::size as AskSize);
        Self(Mutex::new(Painter::new(out, size)))
    }

    /// Shows what the pull of one image came to, without its status.
    pub(crate) fn pulled(&self, pulled: &Pulled) {
        self.say(&format!("Digest: {}", pulled.digest));
    }

    /// Shows what pulling a name, or a repository with all its tags, came to.
    pub(crate) fn status(&self, up_to_date: bool, name: &str) {
        let status = if up_to_date { "Image is up to date for" } else { "Downloaded newer image for" };
        self.say(&format!("Status: {status} {name}"));
    }

    /// The display of a push; `first` says where it goes.
    pub(crate) fn pushing(&self, first: bool) -> Pushing<'_> {
        Pushing { progress: self, first }
    }

    /// Writes a line below the layers so far.
    pub(crate) fn say(&self, line: &str) {
        self.with(|painter| painter.say(line));
    }

    fn with(&self, act: impl FnOnce(&mut Painter)) {
        // A panic of another thread while it drew leaves at worst a crooked line.
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// A step without a bar; elsewhere than on a terminal it is told, too.
    fn step(&self, layer: &Digest, text: &str) {
        self.with(|painter| painter.set(layer, State::Step(text.to_owned()), Some(text)));
    }

    fn done(&self, layer: &Digest, text: &str) {
        self.with(|painter| painter.set(layer, State::Done(text.to_owned()), Some(text)));
    }

    fn bytes(&self, layer: &Digest, doing: &'static str, current: u64, total: u64) {
        self.with(|painter| painter.set(layer, State::Bytes { doing, current, total }, None));
    }
}

/// A tag or a digest.
fn version(reference: &Reference) -> String {
    match (reference.tag(), reference.digest()) {
        (_, Some(digest)) => digest.to_string(),
        (tag, None) => tag.unwrap_or("latest").to_owned(),
    }
}

impl PullProgress for Progress {
    fn event(&self, event: PullEvent<'_>) {
        match event {
            // Docker names the repository as its registry does, without the registry.
            PullEvent::Resolving(reference) => {
                self.say(&format!("{}: Pulling from {}", version(reference), reference.repository()));
            }
            PullEvent::Exists(layer) => self.done(layer, "Already exists"),
            PullEvent::Waiting(layer) => self.step(layer, "Pulling fs layer"),
            // Reading a layer's last byte is not the end: its digest is compared and the disk has to have it.
            PullEvent::Progress { layer, current, total } if current >= total => {
                self.step(layer, "Verifying Checksum");
            }
            PullEvent::Progress { layer, current, total } => self.bytes(layer, "Downloading", current, total),
            PullEvent::Complete(layer) => self.done(layer, "Pull complete"),
        }
    }
}

/// Shows a push.
pub(crate) struct Pushing<'a> {
    progress: &'a Progress,
    first: bool,
}

impl PushProgress for Pushing<'_> {
    fn event(&self, event: PushEvent<'_>) {
        let Self { progress, first } = self;
        match event {
            PushEvent::Repository(reference) if *first => {
                progress.say(&format!("The push refers to repository [{}]", reference.without_version()));
            }
            PushEvent::Repository(_) => {}
            // Elsewhere than on a terminal Docker has one word for all that comes before the sending.
            PushEvent::Waiting(layer) => {
                let waiting = State::Step("Waiting".to_owned());
                progress.with(|painter| painter.set(&layer.0, waiting, Some("Preparing")));
            }
            PushEvent::Preparing(layer) => {
                let preparing = State::Step("Preparing".to_owned());
                progress.with(|painter| painter.set(&layer.0, preparing, None));
            }
            PushEvent::Progress { layer, current, total } => progress.bytes(&layer.0, "Pushing", current, total),
            PushEvent::Complete(layer) => progress.done(&layer.0, "Pushed"),
            PushEvent::Exists(layer) => progress.done(&layer.0, "Layer already exists"),
            PushEvent::Mounted { layer, from } => progress.done(&layer.0, &format!("Mounted from {from}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::screen::Screen;
    use super::*;

    fn shown(terminal: bool) -> Screen {
        let out = Screen::new(24, 80);
        let progress = Progress::new(Box::new(out.clone()), terminal);
        let reference = Reference::parse("nginx").unwrap().with_default_tag();
        let (one, two) = (Digest::from_sha256([1; 32]), Digest::from_sha256([2; 32]));
        progress.event(PullEvent::Resolving(&reference));
        progress.event(PullEvent::Exists(&one));
        progress.event(PullEvent::Waiting(&two));
        progress.event(PullEvent::Progress { layer: &two, current: 500, total: 1000 });
        // The end of a stream is told as its last byte was.
        progress.event(PullEvent::Progress { layer: &two, current: 1000, total: 1000 });
        progress.event(PullEvent::Progress { layer: &two, current: 1000, total: 1000 });
        progress.event(PullEvent::Complete(&two));
        progress.status(false, "nginx:latest");
        out
    }

    #[test]
    fn without_a_terminal_each_step_is_a_line() {
        assert_eq!(
            shown(false).text(),
            "latest: Pulling from library/nginx\n010101010101: Already exists\n020202020202: Pulling fs layer\n\
             020202020202: Verifying Checksum\n020202020202: Pull complete\nStatus: Downloaded newer image for nginx:latest\n"
        );
    }

    #[test]
    fn a_push_in_dockers_words() {
        let shown = |terminal| {
            let out = Screen::new(24, 80);
            let progress = Progress::new(Box::new(out.clone()), terminal);
            let pushing = progress.pushing(true);
            let [one, two, three] = [1, 2, 3].map(|number| tare_spec::DiffId(Digest::from_sha256([number; 32])));
            pushing.event(PushEvent::Repository(&Reference::parse("127.0.0.1:5000/web:1").unwrap()));
            [&one, &two, &three].into_iter().for_each(|layer| pushing.event(PushEvent::Waiting(layer)));
            pushing.event(PushEvent::Preparing(&one));
            pushing.event(PushEvent::Progress { layer: &one, current: 5, total: 10 });
            pushing.event(PushEvent::Complete(&one));
            pushing.event(PushEvent::Exists(&two));
            pushing.event(PushEvent::Mounted { layer: &three, from: "base" });
            progress.say("1: digest: sha256:x size: 5");
            out
        };
        let (one, two, three) = ("01".repeat(6), "02".repeat(6), "03".repeat(6));
        let steps = [
            "The push refers to repository [127.0.0.1:5000/web]".to_owned(),
            format!("{one}: Pushed"),
            format!("{two}: Layer already exists"),
            format!("{three}: Mounted from base"),
            "1: digest: sha256:x size: 5".to_owned(),
        ];
        assert_eq!(shown(true).lines(), steps);
        let plain = shown(false).text();
        assert!(
            plain.contains(&format!("{one}: Preparing\n{two}: Preparing\n{three}: Preparing\n{one}: Pushed\n")),
            "{plain}"
        );
    }

    #[test]
    fn on_a_terminal_lines_change_in_place() {
        let expected = [
            "latest: Pulling from library/nginx",
            "010101010101: Already exists",
            "020202020202: Pull complete",
            "Status: Downloaded newer image for nginx:latest",
        ];
        assert_eq!(shown(true).lines(), expected);
    }
}
