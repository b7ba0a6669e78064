//! A line a step that changes in place, and below those that run the end of their output.

use super::View;
use super::quiet::LOG_LIMIT;
use super::steps::{State, Step, Steps, failures};
use crate::flags::bytes;
use crate::printable::printable;
use crate::progress::region::{AskSize, Region, Row, cut, fit, usable};
use std::io::Write;
use std::time::Duration;
use tare_engine::build::Event;

/// So many lines of a running step's output are shown where there is room.
const BOX: usize = 6;
/// Names are not worth showing in fewer columns; the times go then.
const NARROWEST_NAME: usize = 12;

/// What is over, what failed, what was given up, and output: BuildKit's colours.
const BLUE: &str = "34";
const RED: &str = "31";
const YELLOW: &str = "33";
const FAINT: &str = "2";

/// The view.
pub(super) struct Live {
    region: Region,
    steps: Steps,
    coloured: bool,
}

/// A line, and whether it is of a step that is not over.
struct Shown {
    row: Row,
    runs: bool,
}

impl Live {
    pub(super) fn new(out: Box<dyn Write + Send>, size: AskSize) -> Self {
        // https://no-color.org: set to anything but nothing.
        let coloured = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { region: Region::new(out, Some(size)), steps: Steps::new(LOG_LIMIT), coloured }
    }

    fn header(&self, now: Duration, finished: bool, columns: usize) -> Row {
        let (over, all) = self.steps.counts();
        let mark = if finished && over == all { " FINISHED" } else { "" };
        let text = format!("[+] Building {:.1}s ({over}/{all}){mark}", now.as_secs_f64());
        Row::plain(cut(&text, columns).to_owned())
    }

    /// The lines of a step without its output.
    fn lines(&self, step: &Step, now: Duration, columns: usize) -> Vec<Shown> {
        let style = match step.state {
            State::Failed => Some(RED),
            State::Cancelled => Some(YELLOW),
            State::Cached | State::Done => Some(BLUE),
            State::Planned | State::Running | State::Waiting => None,
        };
        let waits = if step.state == State::Waiting { "WAITING " } else { step.state.mark() };
        let runs = !step.state.is_over();
        let name = format!(" => {waits}{}", step.name);
        let mut lines = vec![self.row(&name, "", step.elapsed(now), columns, style, runs)];
        for transfer in &step.transfers {
            let status = match (transfer.current, transfer.total) {
                (0, 0) => String::new(),
                (current, 0) => bytes::show_sum(current),
                (current, total) => format!("{} / {}", bytes::show_sum(current), bytes::show_sum(total)),
            };
            let over = transfer.is_over() || !runs;
            let until = if over { transfer.now } else { now };
            let style = if over { style.or(Some(BLUE)) } else { None };
            let took = until.saturating_sub(transfer.began);
            lines.push(self.row(&format!(" => => {}", transfer.what), &status, took, columns, style, runs));
        }
        lines
    }

    /// A name, a status where there is room, and a time at the right edge.
    fn row(
        &self,
        name: &str,
        status: &str,
        time: Duration,
        columns: usize,
        style: Option<&'static str>,
        runs: bool,
    ) -> Shown {
        let style = style.filter(|_| self.coloured);
        // What takes no time that anybody feels takes none.
        let time = if time < Duration::from_millis(50) { 0.0 } else { time.as_secs_f64() };
        let mut right = format!(" {time:.1}s");
        if !status.is_empty() && columns >= right.len() + status.len() + 1 + 2 * NARROWEST_NAME {
            right = format!(" {status}{right}");
        }
        let text = match columns.checked_sub(right.len()).filter(|&left| left >= NARROWEST_NAME) {
            Some(left) => format!("{}{right}", fit(name, left)),
            None => cut(name, columns).to_owned(),
        };
        Shown { row: Row { text, style }, runs }
    }

    /// The end of a step's output.
    fn output(&self, step: &Step, count: usize, columns: usize) -> Vec<Shown> {
        let style = Some(FAINT).filter(|_| self.coloured);
        let row = |bytes: &[u8]| {
            let text = format!(" => => # {}", printable(bytes));
            Shown { row: Row { text: cut(&text, columns).trim_end().to_owned(), style }, runs: true }
        };
        step.log.tail(count).map(|line| row(&line.bytes)).collect()
    }

    /// What fits on the terminal below the header: of the steps that are over the last ones.
    fn body(&self, now: Duration, room: usize, columns: usize) -> Vec<Row> {
        let steps = self.steps.in_order();
        let runs = |step: &Step| !step.state.is_over();
        let lines: Vec<Vec<Shown>> = steps.iter().map(|(_, step)| self.lines(step, now, columns)).collect();
        let running: usize = lines.iter().flatten().filter(|line| line.runs).count();
        let talking = steps.iter().filter(|(_, step)| runs(step) && step.log.len() > 0).count();
        // Output must not push a running step off, and two finished steps should be seen, too.
        let share = room.saturating_sub(running + 2).checked_div(talking).unwrap_or(0).min(BOX);
        let mut all = Vec::new();
        for ((_, step), lines) in steps.iter().zip(lines) {
            all.extend(lines);
            if runs(step) {
                all.extend(self.output(step, share, columns));
            }
        }
        let mut over = all.len().saturating_sub(room);
        all.retain(|line| {
            let drop = over > 0 && !line.runs;
            over -= usize::from(drop);
            !drop
        });
        if over > 0 {
            all.truncate(room.saturating_sub(1));
            let more = format!(" => and {} more", over + 1);
            all.push(Shown { row: Row::plain(cut(&more, columns).to_owned()), runs: true });
        }
        all.into_iter().map(|line| line.row).collect()
    }

    fn draw(&mut self, now: Duration) {
        let (rows, columns) = self.region.size();
        let columns = usable(columns);
        let mut lines = vec![self.header(now, false, columns)];
        lines.extend(self.body(now, rows.saturating_sub(2).max(1), columns));
        self.region.paint(&[], &lines);
    }
}

impl View for Live {
    fn event(&mut self, now: Duration, event: &Event<'_>) {
        let _known = self.steps.take(now, event);
        if self.region.is_due() {
            self.draw(now);
        }
    }

    fn tick(&mut self, now: Duration) {
        if self.region.is_due() {
            self.draw(now);
        }
    }

    fn finish(&mut self, now: Duration, failed: bool) {
        let (_, columns) = self.region.size();
        let columns = usable(columns);
        let mut all = vec![self.header(now, !failed, columns)];
        for (_, step) in self.steps.in_order() {
            all.extend(self.lines(step, now, columns).into_iter().map(|line| line.row));
        }
        self.region.paint(&all, &[]);
        if failed {
            let text = failures(&self.steps, usize::MAX);
            self.region.write(text.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{done, failed, millis, output, plan};
    use super::*;
    use crate::progress::screen::Screen;
    use unicode_width::UnicodeWidthStr;

    fn view(rows: usize, columns: usize, size: AskSize) -> (Live, Screen) {
        let screen = Screen::new(rows, columns);
        let mut view = Live::new(Box::new(screen.clone()), size);
        view.coloured = true;
        (view, screen)
    }

    fn begun(view: &mut Live) {
        let titles = plan(&[
            "[internal] load build definition from Dockerfile",
            "[build 1/3] FROM docker.io/library/debian:13@sha256:0123456789abcdef0123456789abcdef",
            "[build 2/3] RUN apt-get update && apt-get install -y --no-install-recommends build-essential",
            "[build 3/3] COPY . .",
        ]);
        view.event(millis(0), &Event::Planned(&titles));
        view.event(millis(0), &Event::Started(0));
        view.event(millis(60), &done(0, 60));
        view.event(millis(70), &Event::Started(1));
        view.event(millis(71), &Event::Cached(1));
        view.event(millis(80), &Event::Started(2));
        for number in 1..=8 {
            view.event(millis(90), &output(2, format!("Get:{number} \x1b[1mpackage\x1b[0m\r\n").as_bytes()));
        }
        view.event(millis(90), &output(2, "Unpacking 日本語 …".as_bytes()));
        view.draw(millis(1240));
    }

    #[test]
    fn at_80_columns() {
        let (mut view, screen) = view(24, 80, || Some((24, 80)));
        begun(&mut view);
        let expected = [
            "[+] Building 1.2s (2/4)",
            " => [internal] load build definition from Dockerfile                       0.1s",
            " => CACHED [build 1/3] FROM docker.io/library/debian:13@sha256:0123456789… 0.0s",
            " => [build 2/3] RUN apt-get update && apt-get install -y --no-install-rec… 1.2s",
            " => => # Get:4 package",
            " => => # Get:5 package",
            " => => # Get:6 package",
            " => => # Get:7 package",
            " => => # Get:8 package",
            " => => # Unpacking 日本語 …",
        ];
        assert_eq!(screen.lines(), expected);
        view.event(millis(1300), &done(2, 1220));
        view.event(millis(1300), &Event::Started(3));
        view.event(millis(1310), &done(3, 10));
        view.finish(millis(1350), false);
        let expected = [
            "[+] Building 1.4s (4/4) FINISHED",
            " => [internal] load build definition from Dockerfile                       0.1s",
            " => CACHED [build 1/3] FROM docker.io/library/debian:13@sha256:0123456789… 0.0s",
            " => [build 2/3] RUN apt-get update && apt-get install -y --no-install-rec… 1.2s",
            " => [build 3/3] COPY . .                                                   0.0s",
        ];
        assert_eq!(screen.lines(), expected);
        assert!(screen.styles().iter().all(|style| ["34", "2", "0"].contains(&style.as_str())));
    }

    #[test]
    fn at_40_and_200_columns() {
        let (mut view, screen) = view(24, 40, || Some((24, 40)));
        begun(&mut view);
        let lines = screen.lines();
        assert_eq!(lines[0], "[+] Building 1.2s (2/4)");
        assert_eq!(lines[1], " => [internal] load build definit… 0.1s");
        assert_eq!(lines[3], " => [build 2/3] RUN apt-get updat… 1.2s");
        assert_eq!(lines[9], " => => # Unpacking 日本語 …");
        assert!(lines.iter().all(|line| line.width() < 40), "{lines:?}");

        let (mut view, screen) = self::view(24, 200, || Some((24, 200)));
        begun(&mut view);
        let lines = screen.lines();
        assert_eq!(lines[3].width(), 199);
        let name = " => [build 2/3] RUN apt-get update && apt-get install -y --no-install-recommends build-essential ";
        assert!(lines[3].starts_with(name) && lines[3].ends_with("  1.2s"), "{lines:?}");
    }

    #[test]
    fn at_very_few_columns_times_go_first() {
        let (mut view, screen) = view(10, 12, || Some((10, 12)));
        begun(&mut view);
        assert!(screen.lines().iter().all(|line| line.width() < 12), "{:?}", screen.lines());
        let (mut view, screen) = self::view(10, 2, || Some((10, 2)));
        begun(&mut view);
        assert!(screen.lines().iter().all(|line| line.width() < 2), "{:?}", screen.lines());
    }

    #[test]
    fn what_runs_is_seen_when_there_are_more_steps_than_rows() {
        let (mut view, screen) = view(10, 80, || Some((10, 80)));
        let names: Vec<String> = (0..20).map(|number| format!("[{number}/20] RUN step {number}")).collect();
        view.event(millis(0), &Event::Planned(&plan(&names.iter().map(String::as_str).collect::<Vec<_>>())));
        view.event(millis(0), &Event::Started(0));
        view.event(millis(1), &output(0, b"one\ntwo\nthree\nfour\nfive\n"));
        for step in 1..15 {
            view.event(millis(1), &Event::Started(step));
            view.event(millis(1), &done(step, 1));
        }
        view.draw(millis(2));
        let lines = screen.lines();
        assert_eq!(lines.len(), 9, "{lines:?}");
        assert!(lines[1].starts_with(" => [0/20] RUN step 0"), "{lines:?}");
        assert_eq!(
            lines[2..7],
            [1, 2, 3, 4, 5].map(|n| format!(" => => # {}", ["one", "two", "three", "four", "five"][n - 1]))
        );
        assert!(lines[8].starts_with(" => [14/20] RUN step 14"), "{lines:?}");

        for step in 15..20 {
            view.event(millis(3), &Event::Started(step));
        }
        (0..15).filter(|&step| step != 3).for_each(|step| view.event(millis(4), &Event::Started(step)));
        view.draw(millis(5));
        let lines = screen.lines();
        assert_eq!((lines.len(), lines.last().unwrap().as_str()), (9, " => and 12 more"), "{lines:?}");

        (0..20).for_each(|step| view.event(millis(6), &done(step, 1)));
        view.finish(millis(7), false);
        // What does not fit scrolls off.
        assert_eq!(screen.lines().len(), 21);
    }

    #[test]
    fn transfers_have_lines_of_their_own() {
        let (mut view, screen) = view(24, 80, || Some((24, 80)));
        view.event(millis(0), &Event::Planned(&plan(&["[1/1] FROM web"])));
        view.event(millis(0), &Event::Started(0));
        view.event(millis(10), &Event::Bytes { step: 0, what: "sha256:0123", current: 0, total: 30_000_000 });
        view.event(millis(900), &Event::Bytes { step: 0, what: "sha256:0123", current: 12_345_678, total: 30_000_000 });
        view.draw(millis(1010));
        let expected = [
            "[+] Building 1.0s (0/1)",
            " => [1/1] FROM web                                                         1.0s",
            " => => sha256:0123                                          12.35MB / 30MB 1.0s",
        ];
        assert_eq!(screen.lines(), expected);
    }

    #[test]
    fn a_failed_step_leaves_all_it_said() {
        let (mut view, screen) = view(24, 80, || Some((24, 80)));
        view.event(millis(0), &Event::Planned(&plan(&["[1/3] RUN long", "[2/3] RUN bad", "[3/3] RUN last"])));
        view.event(millis(0), &Event::Started(0));
        view.event(millis(0), &Event::Started(1));
        for number in 0..40 {
            view.event(millis(0), &output(1, format!("\x1b[2Jline {number}\n").as_bytes()));
        }
        view.event(millis(100), &failed(1, "exit code: 1", 100));
        view.event(millis(110), &Event::Cancelled(0));
        view.finish(millis(120), true);
        let mut expected = vec![
            "[+] Building 0.1s (2/3)".to_owned(),
            " => CANCELED [1/3] RUN long                                                0.1s".to_owned(),
            " => ERROR [2/3] RUN bad                                                    0.1s".to_owned(),
            "------".to_owned(),
            " > [2/3] RUN bad:".to_owned(),
        ];
        expected.extend((0..40).map(|number| format!("0.000 line {number}")));
        expected.push("------".to_owned());
        assert_eq!(screen.lines(), expected);
    }

    #[test]
    fn a_terminal_may_change_its_size() {
        use std::sync::atomic::{AtomicU16, Ordering};
        static COLUMNS: AtomicU16 = AtomicU16::new(100);
        let (mut view, screen) = view(24, 100, || Some((24, COLUMNS.load(Ordering::Relaxed))));
        begun(&mut view);
        for columns in [40, 120, 30, 80] {
            COLUMNS.store(columns, Ordering::Relaxed);
            screen.resize(24, usize::from(columns));
            view.draw(millis(1250));
            let lines = screen.lines();
            assert_eq!((lines.len(), lines[0].as_str()), (10, "[+] Building 1.2s (2/4)"), "{lines:?}");
        }
    }

    #[test]
    fn colours_can_be_had_off() {
        let (mut view, screen) = view(24, 80, || Some((24, 80)));
        view.coloured = false;
        begun(&mut view);
        assert!(screen.styles().is_empty());
    }
}
