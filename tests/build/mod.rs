//! `build`, from Dockerfiles to containers that run.

mod agents;
mod cache;
mod elsewhere;
mod examples;
mod failures;
mod inputs;
mod kills;
pub(crate) mod local;
mod outputs;
mod platforms;
mod stages;
mod step_mounts;
mod tidy;
mod views;

use crate::host::{Host, Output, Run};
use std::fs;
use std::path::{Path, PathBuf};

/// A folder to build from.
struct Context {
    folder: PathBuf,
}

impl Context {
    /// A folder of this name with these files. `BASE` in a Dockerfile is the busybox image of the host's registry.
    fn new(host: &Host, name: &str, files: &[(&str, &str)]) -> Self {
        let folder = host.folder().join(name);
        fs::create_dir(&folder).unwrap();
        let context = Self { folder };
        for (path, text) in files {
            // The registry starts when it is first asked for.
            let text =
                if text.contains("BASE") { text.replace("BASE", &host.image("busybox")) } else { (*text).to_owned() };
            context.write(path, &text);
        }
        context
    }

    /// The same with a Dockerfile only.
    fn of_dockerfile(host: &Host, text: &str) -> Self {
        Self::new(host, "context", &[("Dockerfile", text)])
    }

    fn path(&self) -> String {
        self.folder.display().to_string()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.file(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

/// `tare build` of a context with plain progress.
fn build(host: &Host, context: &Context, flags: &[&str]) -> Run {
    let path = context.path();
    host.tare(&[&["build", "--progress=plain"], flags, &[&path]].concat())
}

/// Builds under a name and gives back what standard error said.
#[track_caller]
fn built(host: &Host, context: &Context, name: &str) -> String {
    let output = build(host, context, &["-t", name]).output();
    assert_eq!((output.code, output.stdout.as_str()), (0, ""), "{}", output.stderr);
    output.stderr
}

/// The titles of steps that had to run and of those that were cached, from plain progress.
fn steps(progress: &str) -> (Vec<String>, Vec<String>) {
    let (mut ran, mut cached) = (Vec::new(), Vec::new());
    let numbered = |line: &str| {
        let (number, rest) = line.strip_prefix('#')?.split_once(' ')?;
        Some((number.to_owned(), rest.to_owned()))
    };
    let lines: Vec<(String, String)> = progress.lines().filter_map(numbered).collect();
    let mut titles: Vec<&(String, String)> = Vec::new();
    for line in &lines {
        if !titles.iter().any(|title| title.0 == line.0) {
            titles.push(line);
        }
    }
    for (number, title) in titles.into_iter().filter(|(_, title)| !title.starts_with("[internal]")) {
        let is_cached = lines.iter().any(|line| line.0 == *number && line.1 == "CACHED");
        if is_cached { &mut cached } else { &mut ran }.push(title.clone());
    }
    (ran, cached)
}

/// Whether one of the titles is of this statement.
fn has(titles: &[String], statement: &str) -> bool {
    titles.iter().any(|title| title.ends_with(&format!("] {statement}")))
}

/// The id of an image.
fn id(host: &Host, name: &str) -> String {
    inspect(host, name, "/Id").as_str().unwrap().to_owned()
}

fn inspect(host: &Host, name: &str, pointer: &str) -> serde_json::Value {
    let text = host.tare(&["image", "inspect", name]).ok();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    value.pointer(&format!("/0{pointer}")).unwrap_or_else(|| panic!("no {pointer} in {text}")).clone()
}

/// What a container of the image says.
#[track_caller]
fn run(host: &Host, name: &str, command: &[&str]) -> String {
    host.tare(&[&["run", "--rm", "--network", "none", name], command].concat()).ok()
}

/// A tar archive of a folder's files.
fn archive(host: &Host, folder: &Path) -> Vec<u8> {
    let path = host.folder().join("archive.tar");
    let (folder, name) = (folder.display().to_string(), path.display().to_string());
    host.command("tar", &["-C", &folder, "-cf", &name, "."]).ok();
    fs::read(path).unwrap()
}

/// Files below the root directory in which these bytes are.
fn holders(host: &Host, text: &str) -> String {
    host.command("grep", &["-rlF", "-e", text, &host.root().display().to_string()]).output().stdout
}

#[track_caller]
fn says(output: &Output, texts: &[&str]) {
    for text in texts {
        assert!(output.stderr.contains(text), "{text:?} is missing:\n{}", output.stderr);
    }
}

#[test]
fn what_is_built_runs() {
    let Some(host) = Host::new() else { return };
    let context = Context::new(
        &host,
        "context",
        &[
            (
                "Dockerfile",
                "FROM BASE\nWORKDIR /app\nENV GREETING=hello WHO=nobody\nCOPY words.txt .\nCOPY more more/\n\
                 RUN echo \"$GREETING\" > said && cat words.txt more/* >> said\nUSER user\nEXPOSE 80\nVOLUME /data\n\
                 LABEL one=1 two=\"2 2\"\nSTOPSIGNAL SIGUSR1\nENTRYPOINT [\"cat\"]\nCMD [\"/app/said\"]\n",
            ),
            ("words.txt", "words\n"),
            ("more/a", "a\n"),
            ("more/b", "b\n"),
        ],
    );
    built(&host, &context, "web:1");
    assert_eq!(run(&host, "web:1", &[]), "hello\nwords\na\nb");
    let config = |pointer: &str| inspect(&host, "web:1", &format!("/Config{pointer}"));
    assert_eq!(config("/WorkingDir"), "/app");
    assert_eq!(config("/User"), "user");
    assert_eq!(config("/Env"), serde_json::json!(["PATH=/bin", "IMAGE=busybox", "GREETING=hello", "WHO=nobody"]));
    assert_eq!(config("/Labels"), serde_json::json!({"one": "1", "two": "2 2"}));
    assert_eq!(config("/StopSignal"), "SIGUSR1");
    assert_eq!(config("/ExposedPorts"), serde_json::json!({"80/tcp": {}}));
    assert_eq!(config("/Entrypoint"), serde_json::json!(["cat"]));
    let history = host.tare(&["history", "--no-trunc", "--format", "{{.CreatedBy}}", "web:1"]).ok();
    let newest: Vec<&str> = history.lines().take(2).collect();
    assert_eq!(newest, ["CMD [\"/app/said\"]", "ENTRYPOINT [\"cat\"]"]);
    assert!(history.contains("RUN /bin/sh -c echo \"$GREETING\" > said"), "{history}");
    // The name moves to the next one that is built under it.
    context.write("words.txt", "other\n");
    let before = id(&host, "web:1");
    built(&host, &context, "web:1");
    assert_ne!(id(&host, "web:1"), before);
    assert_eq!(run(&host, "web:1", &[]), "hello\nother\na\nb");
}

#[test]
fn all_spellings_build() {
    let Some(host) = Host::new() else { return };
    let context = Context::of_dockerfile(&host, "FROM BASE\nRUN echo there > /said\n");
    let path = context.path();
    let ids: Vec<String> = [&["build"][..], &["image", "build"], &["builder", "build"], &["buildx", "build"]]
        .iter()
        .map(|words| host.tare(&[words, &["-q", &path][..]].concat()).ok())
        .collect();
    assert!(ids[0].starts_with("sha256:") && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(run(&host, &ids[0], &["cat", "/said"]), "there");
}
