//! The conformance suite of the OCI distribution specification against `tare registry serve`.

use crate::{cargo, run as run_command, top};
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// What is optional for registries and what the suite leaves out unless it is asked for.
const OPTIONAL: [&str; 4] = [
    "OCI_API_BLOBS_DIGEST_HEADER",
    "OCI_API_BLOBS_UPLOAD_CANCEL",
    "OCI_API_MANIFESTS_DIGEST_HEADER",
    "OCI_API_MANIFESTS_TAG_PARAM",
];

/// Runs the suite's program for the released and for the coming version of the specification.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let [program] = arguments else {
        bail!(
            "name the suite's program: conformance/ of the repository opencontainers/distribution-spec, built as its README says"
        );
    };
    let program = std::path::absolute(program)?;
    run_command(&mut cargo(["build", "--package", "tare"]))?;
    // The target folder as cargo sees it: this program lies in it, too.
    let own = std::env::current_exe()?;
    let tare = own.parent().context("no folder")?.join("tare");
    let work = top().join("target/conformance");
    if work.exists() {
        std::fs::remove_dir_all(&work)?;
    }
    for version in ["1.1", "dev"] {
        let folder = work.join(version);
        std::fs::create_dir_all(&folder)?;
        let server = Server::start(&tare, &folder.join("content"))?;
        let mut suite = Command::new(&program);
        suite.current_dir(&folder).env("OCI_VERSION", version).env("OCI_TLS", "disabled");
        suite.env("OCI_REGISTRY", &server.address).env("OCI_RESULTS_DIR", &folder);
        suite.envs(OPTIONAL.map(|name| (name, "true")));
        let log = std::fs::File::create(folder.join("log"))?;
        let status = suite.stdout(log.try_clone()?).stderr(log).status().with_context(|| format!("{program:?}"))?;
        let results = results(&folder.join("junit.xml"))?;
        println!("distribution-spec {version}: {results}");
        if !status.success() || !results.starts_with("0 failed") {
            bail!("{status}; {} says more", folder.join("report.html").display());
        }
    }
    Ok(())
}

/// A registry of tare, killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: String,
}

impl Server {
    pub(crate) fn start(tare: &Path, root: &Path) -> Result<Self> {
        let mut command = Command::new(tare);
        command.args(["registry", "serve", "--quiet", "--addr", "127.0.0.1:0", "--root"]).arg(root);
        let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("{}", tare.display()))?;
        let mut url = String::new();
        let read = child.stdout.take().map(|output| BufReader::new(output).read_line(&mut url));
        let mut server = Self { child, address: String::new() };
        read.context("no output")??;
        server.address = url.trim().strip_prefix("http://").context("the registry did not start")?.to_owned();
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `0 failed, 862 run` of the suite's report.
fn results(report: &Path) -> Result<String> {
    let text = std::fs::read_to_string(report).with_context(|| format!("{}", report.display()))?;
    let head = text.split("<testsuites").nth(1).and_then(|rest| rest.split('>').next()).context("no results in it")?;
    let number = |name: &str| {
        let value = head.split(&format!("{name}=\"")).nth(1).and_then(|rest| rest.split('"').next());
        value.map_or(Ok(0), str::parse::<u32>).with_context(|| format!("{name} of {head}"))
    };
    Ok(format!("{} failed, {} run", number("failures")? + number("errors")?, number("tests")?))
}
