//! One JSON object a line: the status messages of BuildKit's client (`SolveStatus` in its `client/graph.go`), for programs.

use super::View;
use super::steps::{Step, Steps};
use crate::printable::printable;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::time::Duration;
use tare_engine::build::{Event, StepId, Warning};
use tare_spec::Digest;

/// The view.
pub(super) struct RawJson {
    out: Box<dyn Write + Send>,
    steps: Steps,
    planned: usize,
    /// When the build began.
    begin: Timestamp,
}

impl RawJson {
    pub(super) fn new(out: Box<dyn Write + Send>) -> Self {
        Self { out, steps: Steps::new(0), planned: 0, begin: Timestamp::now() }
    }

    fn send(&mut self, message: &Value) {
        // As everywhere: the work is what counts.
        let _ = self.out.write_all(format!("{message}\n").as_bytes()).and_then(|()| self.out.flush());
    }

    /// A time since the build began, as RFC 3339 has it.
    fn at(&self, time: Duration) -> String {
        self.begin.checked_add(time).unwrap_or(self.begin).to_string()
    }

    fn vertex(&self, id: StepId, more: Value) -> Value {
        let step = self.steps.step(id);
        let mut vertex = json!({ "digest": digest(id, &step.name), "name": step.name });
        if step.number > 0 {
            vertex["started"] = self.at(step.began).into();
        }
        if let (Value::Object(vertex), Value::Object(more)) = (&mut vertex, more) {
            vertex.extend(more);
        }
        json!({ "vertexes": [vertex] })
    }

    fn ended(&self, id: StepId, mut more: Map<String, Value>) -> Value {
        let Step { began, took, .. } = *self.steps.step(id);
        more.insert("completed".to_owned(), self.at(began + took).into());
        self.vertex(id, Value::Object(more))
    }

    fn warning(&self, warning: &Warning) -> Value {
        let Warning { check, lines, message, about } = warning;
        let mut told = json!({
            "level": 1,
            "short": BASE64_STANDARD.encode(format!("{check}: {message} (line {})", lines.first)),
            "detail": [BASE64_STANDARD.encode(about)],
            "range": [{ "start": { "line": lines.first }, "end": { "line": lines.last } }],
        });
        // BuildKit's belong to the step that reads the Dockerfile.
        if let Some((id, step)) = self.steps.in_order().first() {
            told["vertex"] = digest(*id, &step.name).into();
        }
        json!({ "warnings": [told] })
    }

    fn message(&self, now: Duration, id: StepId, event: &Event<'_>) -> Value {
        let vertex = || digest(id, &self.steps.step(id).name);
        let word = |name: &str, value: Value| Map::from_iter([(name.to_owned(), value)]);
        match event {
            Event::Cached(_) => self.ended(id, word("cached", true.into())),
            Event::Done { .. } => self.ended(id, Map::new()),
            Event::Failed { error, .. } => self.ended(id, word("error", (*error).into())),
            Event::Cancelled(_) => self.ended(id, word("error", "context canceled".into())),
            Event::Waiting { what, .. } => json!({ "statuses": [{
                "id": format!("waiting for {}", printable(what.as_bytes())),
                "vertex": vertex(),
                "current": 0,
                "timestamp": self.at(now),
                "started": self.at(now),
            }] }),
            Event::Output { stderr, bytes, .. } => json!({ "logs": [{
                "vertex": vertex(),
                "stream": if *stderr { 2 } else { 1 },
                "data": BASE64_STANDARD.encode(bytes),
                "timestamp": self.at(now),
            }] }),
            Event::Bytes { what, .. } => {
                let (transfers, what) = (&self.steps.step(id).transfers, printable(what.as_bytes()));
                let of = transfers.iter().filter(|transfer| transfer.what == what);
                let statuses = of.map(|transfer| {
                    let mut status = json!({
                        "id": transfer.what,
                        "vertex": vertex(),
                        "current": transfer.current,
                        "timestamp": self.at(now),
                        "started": self.at(transfer.began),
                    });
                    if transfer.total > 0 {
                        status["total"] = transfer.total.into();
                    }
                    if transfer.is_over() {
                        status["completed"] = self.at(now).into();
                    }
                    status
                });
                json!({ "statuses": statuses.collect::<Vec<_>>() })
            }
            Event::Started(_) | Event::Planned(_) | Event::Warning(_) => self.vertex(id, Value::Null),
        }
    }
}

/// A step's name to programs. It is a digest of nothing that anybody could have: only its being the same each time and different
/// from those of the other steps counts.
fn digest(id: StepId, name: &str) -> String {
    let mut bytes = [0; 32];
    for (part, chunk) in bytes.chunks_mut(8).enumerate() {
        let mut hasher = DefaultHasher::new();
        (part, id, name).hash(&mut hasher);
        chunk.copy_from_slice(&hasher.finish().to_be_bytes());
    }
    Digest::from_sha256(bytes).to_string()
}

impl View for RawJson {
    fn event(&mut self, now: Duration, event: &Event<'_>) {
        let known = self.steps.take(now, event);
        match (event, known) {
            (Event::Planned(titles), _) => {
                let all = self.planned..self.planned + titles.len();
                self.planned = all.end;
                let names = titles.iter().zip(all).map(|(_, id)| {
                    let name = &self.steps.step(id).name;
                    json!({ "digest": digest(id, name), "name": name })
                });
                let message = json!({ "vertexes": names.collect::<Vec<_>>() });
                self.send(&message);
            }
            (Event::Warning(warning), _) => {
                let message = self.warning(warning);
                self.send(&message);
            }
            (event, Some(id)) => {
                let message = self.message(now, id, event);
                self.send(&message);
            }
            (_, None) => {}
        }
    }

    fn finish(&mut self, _: Duration, _: bool) {}
}

#[cfg(test)]
mod tests {
    use super::super::testing::{done, failed, millis, output, plan};
    use super::*;
    use crate::progress::screen::Screen;
    use tare_engine::build::Lines;

    #[test]
    fn messages_are_buildkits() {
        let screen = Screen::new(24, 80);
        let mut view = RawJson::new(Box::new(screen.clone()));
        view.begin = "2026-01-02T03:04:05Z".parse().unwrap();
        view.event(millis(0), &Event::Planned(&plan(&["[1/2] FROM web", "[2/2] RUN false"])));
        view.event(millis(1), &Event::Started(0));
        view.event(millis(2), &Event::Bytes { step: 0, what: "sha256:01", current: 7, total: 7 });
        view.event(millis(3), &done(0, 2));
        view.event(millis(4), &Event::Started(1));
        view.event(millis(5), &output(1, b"no\n"));
        view.event(millis(1004), &failed(1, "exit code: 1", 1000));
        let warning = Warning {
            check: "StageNameCasing",
            lines: Lines { first: 1, last: 2 },
            message: "lower".to_owned(),
            about: "why",
        };
        view.event(millis(1005), &Event::Warning(&warning));
        view.finish(millis(1006), true);
        let messages: Vec<Value> = screen.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let (from, run) = (digest(0, "[1/2] FROM web"), digest(1, "[2/2] RUN false"));
        assert_ne!(from, run);
        Digest::parse(&from).unwrap();
        let expected = [
            json!({"vertexes": [{"digest": from, "name": "[1/2] FROM web"}, {"digest": run, "name": "[2/2] RUN false"}]}),
            json!({"vertexes": [{"digest": from, "name": "[1/2] FROM web", "started": "2026-01-02T03:04:05.001Z"}]}),
            json!({"statuses": [{
                "id": "sha256:01", "vertex": from, "current": 7, "total": 7, "timestamp": "2026-01-02T03:04:05.002Z",
                "started": "2026-01-02T03:04:05.002Z", "completed": "2026-01-02T03:04:05.002Z",
            }]}),
            json!({"vertexes": [{
                "digest": from, "name": "[1/2] FROM web", "started": "2026-01-02T03:04:05.001Z",
                "completed": "2026-01-02T03:04:05.003Z",
            }]}),
            json!({"vertexes": [{"digest": run, "name": "[2/2] RUN false", "started": "2026-01-02T03:04:05.004Z"}]}),
            json!({"logs": [{"vertex": run, "stream": 1, "data": "bm8K", "timestamp": "2026-01-02T03:04:05.005Z"}]}),
            json!({"vertexes": [{
                "digest": run, "name": "[2/2] RUN false", "started": "2026-01-02T03:04:05.004Z",
                "completed": "2026-01-02T03:04:06.004Z", "error": "exit code: 1",
            }]}),
            json!({"warnings": [{
                "vertex": from, "level": 1, "short": BASE64_STANDARD.encode("StageNameCasing: lower (line 1)"),
                "detail": [BASE64_STANDARD.encode("why")], "range": [{"start": {"line": 1}, "end": {"line": 2}}],
            }]}),
        ];
        assert_eq!(messages, expected);
    }
}
