//! Images: an image of eight layers, 230 MB compressed and 650 MB unpacked, between registries, archives and stores.

use super::engines::{self, Bench, Engine};
use super::measure::{self, Samples};
use super::rows::{Budget, Figures};
use crate::{output, run as run_command, top};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A layout with the image, made before by `tests/images/big.sh`; making it takes a minute.
const LAYOUT: &str = "TARE_BENCH_BIG";

/// One row.
pub(super) struct Row {
    /// What is done.
    pub(super) name: &'static str,
    /// What ours may take.
    pub(super) budget: Budget,
    before: fn(&Images, &Engine) -> Result<()>,
    work: fn(&Images, &Engine) -> Vec<String>,
}

/// All rows; budgets are those of `SPEC.md`.
pub(super) const ROWS: [Row; 7] = [
    Row {
        name: "pull big",
        budget: Budget { wall: 1500.0, cpu: Some(2500.0) },
        before: Images::remove,
        work: Images::pull,
    },
    Row {
        name: "push big, bytes at hand",
        budget: Budget { wall: 800.0, cpu: None },
        before: Images::empty_registry,
        work: Images::push,
    },
    Row {
        name: "save big",
        budget: Budget { wall: 600.0, cpu: None },
        before: |images, engine| {
            // The first time there is none.
            let _ = fs::remove_file(images.archive(engine));
            measure::run(&images.pull(engine))
        },
        work: |images, engine| engine.command(&["save", "-o", &images.archive(engine), &images.big]),
    },
    Row {
        name: "load big",
        budget: Budget { wall: 1000.0, cpu: None },
        before: |images, engine| {
            let _ = fs::remove_file(images.archive(engine));
            measure::run(&engine.command(&["save", "-o", &images.archive(engine), &images.big]))?;
            images.remove(engine)
        },
        work: |images, engine| engine.command(&["load", "-q", "-i", &images.archive(engine)]),
    },
    Row {
        name: "rmi big",
        budget: Budget { wall: 100.0, cpu: None },
        before: |images, engine| {
            // With the name that a push gave it, only this one would go.
            images.remove(engine)?;
            measure::run(&images.pull(engine))
        },
        work: |images, engine| engine.command(&["rmi", &images.big]),
    },
    Row {
        name: "push big, compressing",
        budget: Budget { wall: 4000.0, cpu: None },
        before: |images, engine| {
            // With its name goes the compressed form of the time before; the first time it has none.
            let _ = measure::run(&engine.command(&["rmi", "-f", &images.target(engine)]));
            images.empty_registry(engine)?;
            measure::run(&engine.command(&["rmi", "-f", &images.target(engine)]))?;
            // Imported, it is one layer that no engine has in compressed form.
            measure::run(&engine.command(&["import", &images.tree.display().to_string(), &images.target(engine)]))
        },
        work: Images::push,
    },
    Row {
        name: "images, 100 tags",
        budget: Budget { wall: 5.0, cpu: None },
        before: |images, engine| {
            (0..100).try_for_each(|number| {
                measure::run(&engine.command(&["tag", &images.small, &format!("tagged:{number}")]))
            })
        },
        work: |_, engine| engine.command(&["images"]),
    },
];

/// What the rows use.
pub(super) struct Images {
    /// The image in the first registry.
    big: String,
    /// A small one that is there.
    small: String,
    /// Its tree as one archive, not compressed.
    tree: PathBuf,
    /// The second registry's address and storage.
    target: (u16, PathBuf),
    folder: PathBuf,
}

impl Images {
    /// Makes the image, unless there is one, and starts a second registry.
    pub(super) fn set_up(bench: &Bench) -> Result<Self> {
        let layout = match std::env::var_os(LAYOUT) {
            Some(layout) => PathBuf::from(layout),
            None => {
                let layout = bench.folder.join("big");
                run_command(Command::new(top().join("tests/images/big.sh")).arg(&layout))?;
                layout
            }
        };
        let big = format!("127.0.0.1:{}/big", bench.registry);
        run_command(
            Command::new("skopeo")
                .args(["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"])
                .args([format!("oci:{}:big", layout.display()), format!("docker://{big}")]),
        )?;
        let bundle = bench.folder.join("big-bundle");
        output(
            Command::new("umoci").args(["unpack", "--image"]).arg(format!("{}:big", layout.display())).arg(&bundle),
        )?;
        let tree = bench.folder.join("big.tar");
        run_command(Command::new("tar").arg("-C").arg(bundle.join("rootfs")).arg("-cf").arg(&tree).arg("."))?;
        fs::remove_dir_all(&bundle)?;
        let storage = bench.folder.join("target");
        let port = engines::start_registry(&bench.folder, "target")?;
        let (small, folder) = (bench.image.clone(), bench.folder.clone());
        Ok(Self { big, small, tree, target: (port, storage), folder })
    }

    fn pull(&self, engine: &Engine) -> Vec<String> {
        engine.command(&[&["pull", "-q"], engine.insecure(), &[&self.big]].concat())
    }

    fn push(&self, engine: &Engine) -> Vec<String> {
        engine.command(&[&["push", "-q"], engine.insecure(), &[&self.target(engine)]].concat())
    }

    fn target(&self, engine: &Engine) -> String {
        format!("127.0.0.1:{}/{}", self.target.0, engine.name)
    }

    fn archive(&self, engine: &Engine) -> String {
        self.folder.join(format!("{}.archive", engine.name)).display().to_string()
    }

    /// Makes sure that the engine has not got it.
    fn remove(&self, engine: &Engine) -> Result<()> {
        for image in [&self.big, &self.target(engine)] {
            // Most often it is not there.
            let _ = measure::run(&engine.command(&["rmi", "-f", image]));
        }
        Ok(())
    }

    /// Makes sure that the engine has the image, and the second registry nothing.
    fn empty_registry(&self, engine: &Engine) -> Result<()> {
        measure::run(&self.pull(engine))?;
        measure::run(&engine.command(&["tag", &self.big, &self.target(engine)]))?;
        match fs::remove_dir_all(self.target.1.join("docker")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Peak of a pull's resident memory in KiB, as the kernel had it last (`VmHWM`, proc(5)).
    pub(super) fn pull_memory(&self, engine: &Engine) -> Result<u64> {
        self.remove(engine)?;
        let (program, arguments) =
            self.pull(engine).split_first().map(|(a, b)| (a.clone(), b.to_vec())).context("pull")?;
        let mut child = Command::new(program).args(arguments).stdout(std::process::Stdio::null()).spawn()?;
        let status = format!("/proc/{}/status", child.id());
        let mut peak = 0;
        while child.try_wait()?.is_none() {
            let text = fs::read_to_string(Path::new(&status)).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            peak = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(peak);
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        Ok(peak)
    }
}

impl Row {
    /// All engines in turn.
    pub(super) fn measure(&self, bench: &Bench, images: &Images, rounds: usize) -> Result<Vec<Figures>> {
        let mut all = Vec::new();
        for engine in &bench.engines {
            all.push(Figures { name: engine.name.to_owned(), samples: Samples::default() });
        }
        for _ in 0..rounds {
            for (engine, figures) in bench.engines.iter().zip(&mut all) {
                (self.before)(images, engine).with_context(|| engine.name)?;
                figures.samples.take(&(self.work)(images, engine))?;
            }
        }
        Ok(all)
    }
}
