//! Where the result goes: `--output`, `--push`, `--load`.

use super::names;
use crate::failure::{Failure, errno_text};
use crate::flags::fields::fields;
use crate::flags::words::boolean;
use crate::output;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use tare_engine::build::{LayoutForm, LayoutTarget, Output, Sink};
use tare_spec::Reference;

/// All outputs, before anything is opened.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outputs {
    /// Each of them.
    list: Vec<Wish>,
    /// Whether the result goes to registries, too.
    pub(crate) push: bool,
    /// The names that the image gets in place of those of `-t`.
    pub(crate) names: Vec<Reference>,
}

/// One output.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wish {
    Store,
    Folder { path: PathBuf, split: Option<bool> },
    Tar { to: Destination, split: Option<bool> },
    Layout { form: LayoutForm, names: Vec<Reference>, to: Destination, folder: bool },
    Nothing,
}

/// Where an archive goes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Destination {
    Stdout,
    Path(String),
}

/// What is opened: the engine's part, and files that get their names when all went well.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    /// For the engine.
    pub(crate) outputs: Vec<Output>,
    files: Vec<output::Output>,
}

impl Outputs {
    /// Reads all of it. `names` are those of `-t`.
    pub(super) fn read<'a>(
        texts: impl Iterator<Item = &'a String>,
        push: bool,
        load: bool,
        tags: &[Reference],
    ) -> Result<Self, String> {
        let mut outputs = Self::default();
        for text in texts.filter(|text| !text.is_empty()) {
            outputs.add(text, tags)?;
        }
        let is_store = |wish: &Wish| *wish == Wish::Store;
        if (push || load || outputs.list.is_empty()) && !outputs.list.iter().any(is_store) {
            outputs.list.push(Wish::Store);
        }
        outputs.push |= push;
        if outputs.push && tags.is_empty() && outputs.names.is_empty() {
            return Err("tag is needed when pushing to registry".to_owned());
        }
        let to_stdout = |wish: &&Wish| {
            matches!(wish, Wish::Tar { to: Destination::Stdout, .. } | Wish::Layout { to: Destination::Stdout, .. })
        };
        if outputs.list.iter().filter(to_stdout).count() > 1 {
            return Err("multiple outputs configured to write to stdout".to_owned());
        }
        Ok(outputs)
    }

    /// Whether files are all that comes out: there is no image whose id could be told.
    pub(crate) fn are_files(&self) -> bool {
        self.list.iter().any(|wish| matches!(wish, Wish::Folder { .. } | Wish::Tar { .. }))
    }

    /// Whether the result is an image somewhere.
    pub(crate) fn have_image(&self) -> bool {
        self.list.iter().any(|wish| matches!(wish, Wish::Store | Wish::Layout { .. }))
    }

    /// Whether an archive goes to standard output.
    pub(crate) fn use_stdout(&self) -> bool {
        self.list.iter().any(|wish| {
            matches!(wish, Wish::Tar { to: Destination::Stdout, .. } | Wish::Layout { to: Destination::Stdout, .. })
        })
    }

    fn add(&mut self, text: &str, tags: &[Reference]) -> Result<(), String> {
        let parts = fields(text)?;
        if parts.len() == 1 && parts[0] == text && !text.starts_with("type=") {
            let wish = match text {
                "-" => Wish::Tar { to: Destination::Stdout, split: None },
                path => Wish::Folder { path: check_folder("local", path)?, split: None },
            };
            self.list.push(wish);
            return Ok(());
        }
        let mut given = Attributes::default();
        for part in &parts {
            let (name, value) = part.split_once('=').ok_or_else(|| format!("invalid value {part}"))?;
            let name = name.trim().to_ascii_lowercase();
            match name.as_str() {
                "type" => given.kind = value.to_owned(),
                "dest" => given.destination = value.to_owned(),
                _ => given.others.push((name, value.to_owned())),
            }
        }
        if given.kind.is_empty() {
            return Err("type is required for output".to_owned());
        }
        let kind = given.kind.clone();
        let wish = match kind.as_str() {
            "local" => {
                let split = given.split()?;
                let path = given.destination.clone();
                Wish::Folder { path: check_folder(&kind, &path)?, split }
            }
            "tar" => Wish::Tar { split: given.split()?, to: destination(&given.destination) },
            "oci" => self.layout(&mut given, LayoutForm::Oci, tags)?,
            "docker" if given.destination.is_empty() => self.image(&mut given)?,
            "docker" => self.layout(&mut given, LayoutForm::Docker, tags)?,
            "image" => self.image(&mut given)?,
            "registry" => {
                self.push = true;
                self.image(&mut given)?
            }
            "cacheonly" => Wish::Nothing,
            other => {
                return Err(format!(
                    "output type {other:?} is not supported: only local, tar, oci, docker, image, registry and cacheonly are"
                ));
            }
        };
        given.refuse_the_rest()?;
        self.list.push(wish);
        Ok(())
    }

    fn image(&mut self, given: &mut Attributes) -> Result<Wish, String> {
        if !given.destination.is_empty() {
            return Err(format!("output type {:?} takes no dest", given.kind));
        }
        if let Some(push) = given.switch("push")? {
            self.push |= push;
        }
        self.names.extend(given.names()?);
        given.accept_what_is_so()?;
        Ok(Wish::Store)
    }

    fn layout(&mut self, given: &mut Attributes, form: LayoutForm, tags: &[Reference]) -> Result<Wish, String> {
        let named = given.names()?;
        let names = if named.is_empty() { tags.to_vec() } else { named };
        let folder = given.switch("tar")? == Some(false);
        given.accept_what_is_so()?;
        let to = if folder {
            Destination::Path(check_folder(&given.kind, &given.destination)?.display().to_string())
        } else {
            destination(&given.destination)
        };
        Ok(Wish::Layout { form, names, to, folder })
    }

    /// Makes files. They have other names until [`Opened::keep`].
    pub(crate) fn open(&self) -> Result<Opened, Failure> {
        let mut opened = Opened::default();
        for wish in &self.list {
            let output = match wish {
                Wish::Nothing => continue,
                Wish::Store => Output::Store,
                Wish::Folder { path, split } => Output::Folder { path: absolute(path)?, split: *split },
                Wish::Tar { to, split } => Output::Tar { to: opened.sink(to, "tar")?, split: *split },
                Wish::Layout { form, names, to: Destination::Path(path), folder: true } => {
                    let to = LayoutTarget::Folder(absolute(Path::new(path))?);
                    Output::Layout { form: *form, names: names.clone(), to }
                }
                Wish::Layout { form, names, to, .. } => {
                    let kind = if *form == LayoutForm::Oci { "oci" } else { "docker" };
                    let to = LayoutTarget::Tar(opened.sink(to, kind)?);
                    Output::Layout { form: *form, names: names.clone(), to }
                }
            };
            opened.outputs.push(output);
        }
        Ok(opened)
    }
}

impl Opened {
    fn sink(&mut self, to: &Destination, kind: &str) -> Result<Sink, Failure> {
        let path = match to {
            Destination::Stdout if io::stdout().is_terminal() => {
                let text = format!("dest file is required for {kind} exporter. refusing to write to console");
                return Err(Failure::new(text));
            }
            Destination::Stdout => None,
            Destination::Path(path) if Path::new(path).is_dir() => {
                return Err(Failure::new(format!("destination file {path} is a directory")));
            }
            Destination::Path(path) => Some(path.as_str()),
        };
        let file = output::Output::open(path)?;
        let out: Box<dyn Write + Send> = Box::new(output::duplicate(file.file().as_fd())?);
        self.files.push(file);
        Ok(Mutex::new(out))
    }

    /// All went well: files get their names.
    pub(crate) fn keep(self) -> Result<(), Failure> {
        self.files.into_iter().try_for_each(output::Output::keep)
    }
}

/// What `-o` says.
#[derive(Debug, Default)]
struct Attributes {
    kind: String,
    destination: String,
    others: Vec<(String, String)>,
}

impl Attributes {
    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.others.iter().position(|(known, _)| known == name)?;
        Some(self.others.remove(at).1)
    }

    fn switch(&mut self, name: &str) -> Result<Option<bool>, String> {
        let Some(value) = self.take(name) else { return Ok(None) };
        // A name alone says yes.
        if value.is_empty() {
            return Ok(Some(true));
        }
        boolean(&value).map(Some).map_err(|why| format!("non-bool value for {name}: {value}: {why}"))
    }

    fn split(&mut self) -> Result<Option<bool>, String> {
        self.switch("platform-split")
    }

    fn names(&mut self) -> Result<Vec<Reference>, String> {
        let value = self.take("name").unwrap_or_default();
        names(value.split(',').map(str::trim).filter(|name| !name.is_empty()))
    }

    /// Takes what asks for no other thing than what is done anyway.
    fn accept_what_is_so(&mut self) -> Result<(), String> {
        // Nothing is unpacked here before it is run, and everything can be run at once.
        self.switch("unpack")?;
        for (name, as_it_is) in [("oci-mediatypes", true), ("rewrite-timestamp", true), ("store", true)] {
            if self.switch(name)?.is_some_and(|value| value != as_it_is) {
                return Err(format!("{name}={} of output type {:?} is not supported yet", !as_it_is, self.kind));
            }
        }
        match self.take("compression").as_deref() {
            None | Some("gzip") => Ok(()),
            Some(other) => Err(format!("compression={other} of output type {:?} is not supported yet", self.kind)),
        }
    }

    fn refuse_the_rest(self) -> Result<(), String> {
        match self.others.first() {
            Some((name, _)) => Err(format!("{name} of output type {:?} is not supported yet", self.kind)),
            None => Ok(()),
        }
    }
}

fn destination(path: &str) -> Destination {
    match path {
        "" | "-" => Destination::Stdout,
        path => Destination::Path(path.to_owned()),
    }
}

fn check_folder(kind: &str, path: &str) -> Result<PathBuf, String> {
    match path {
        "" => return Err(format!("dest is required for {kind} exporter")),
        "-" => return Err(format!("dest cannot be stdout for {kind} exporter")),
        _ => {}
    }
    match fs::metadata(path) {
        Ok(found) if !found.is_dir() => Err(format!("destination directory {path} is a file")),
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(format!("invalid destination directory: {path}: {}", errno_text(&error)))
        }
        _ => Ok(path.into()),
    }
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|error| Failure::new(format!("cannot tell where {} is: {}", path.display(), errno_text(&error))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(name: &str) -> Reference {
        Reference::parse(name).unwrap().with_default_tag()
    }

    fn read(texts: &[&str], push: bool, load: bool, tags: &[&str]) -> Result<Outputs, String> {
        let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
        let tags: Vec<Reference> = tags.iter().map(|name| tag(name)).collect();
        Outputs::read(texts.iter(), push, load, &tags)
    }

    #[test]
    fn the_store_is_where_images_go() {
        let store = |push, names: &[&str]| Outputs {
            list: vec![Wish::Store],
            push,
            names: names.iter().map(|name| tag(name)).collect(),
        };
        assert_eq!(read(&[], false, false, &[]).unwrap(), store(false, &[]));
        assert_eq!(read(&[], true, false, &["web"]).unwrap(), store(true, &[]));
        assert_eq!(read(&["type=docker"], false, true, &[]).unwrap(), store(false, &[]));
        assert_eq!(read(&["type=registry"], false, false, &["web"]).unwrap(), store(true, &[]));
        assert_eq!(read(&["type=image,push=true,name=web"], false, false, &[]).unwrap(), store(true, &["web"]));
        assert_eq!(
            read(&["type=image,\"name=web,web:2\",oci-mediatypes=true,unpack=false"], false, false, &[]).unwrap(),
            store(false, &["web", "web:2"])
        );
        assert_eq!(read(&["type=cacheonly"], false, false, &[]).unwrap().list, [Wish::Nothing]);
        assert_eq!(read(&["type=cacheonly"], false, true, &[]).unwrap().list, [Wish::Nothing, Wish::Store]);
    }

    #[test]
    fn files_go_to_folders_and_archives() {
        let folder = |path: &str, split| Wish::Folder { path: path.into(), split };
        let to = |path: &str| Destination::Path(path.to_owned());
        assert_eq!(read(&["out"], false, false, &[]).unwrap().list, [folder("out", None)]);
        assert_eq!(
            read(&["type=local,dest=/nonexistent/out,platform-split=false"], false, false, &[]).unwrap().list,
            [folder("/nonexistent/out", Some(false))]
        );
        assert_eq!(read(&["-"], false, false, &[]).unwrap().list, [Wish::Tar { to: Destination::Stdout, split: None }]);
        assert_eq!(
            read(
                &[
                    "type=tar,dest=x.tar",
                    "type=oci,dest=y.tar",
                    "type=docker,dest=z.tar,name=other",
                    "type=oci,tar=false,dest=l"
                ],
                false,
                false,
                &["web"]
            )
            .unwrap()
            .list,
            [
                Wish::Tar { to: to("x.tar"), split: None },
                Wish::Layout { form: LayoutForm::Oci, names: vec![tag("web")], to: to("y.tar"), folder: false },
                Wish::Layout { form: LayoutForm::Docker, names: vec![tag("other")], to: to("z.tar"), folder: false },
                Wish::Layout { form: LayoutForm::Oci, names: vec![tag("web")], to: to("l"), folder: true },
            ]
        );
        assert!(read(&["out"], false, false, &[]).unwrap().are_files());
        assert!(read(&["type=oci"], false, false, &[]).unwrap().use_stdout());
    }

    #[test]
    fn refusals() {
        for (texts, expected) in [
            (&["dest=x,y=z"][..], "type is required for output"),
            (&["type=local"], "dest is required for local exporter"),
            (&["type=local,dest=-"], "dest cannot be stdout for local exporter"),
            (&["type=local,dest=/etc/passwd"], "destination directory /etc/passwd is a file"),
            (&["type=local,dest"], "invalid value dest"),
            (&["type=local,dest=x,mode=delete"], "mode of output type \"local\" is not supported yet"),
            (
                &["type=wasm,dest=x"],
                "output type \"wasm\" is not supported: only local, tar, oci, docker, image, registry and cacheonly are",
            ),
            (&["type=image,compression=estargz"], "compression=estargz of output type \"image\" is not supported yet"),
            (
                &["type=image,rewrite-timestamp=false"],
                "rewrite-timestamp=false of output type \"image\" is not supported yet",
            ),
            (&["type=image,push-by-digest=true"], "push-by-digest of output type \"image\" is not supported yet"),
            (&["type=image,push=x"], "non-bool value for push: x: strconv.ParseBool: parsing \"x\": invalid syntax"),
            (&["type=image,name=UPPER"], "invalid tag \"UPPER\": "),
            (&["type=registry"], "tag is needed when pushing to registry"),
            (&["type=tar", "type=oci"], "multiple outputs configured to write to stdout"),
        ] {
            let error = read(texts, false, false, &[]).unwrap_err();
            assert!(error.starts_with(expected), "{texts:?}: {error}");
        }
    }

    #[test]
    fn a_file_gets_its_name_when_it_is_whole() {
        let folder = std::env::temp_dir().join(format!("tare-outputs-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("x.tar");
        let outputs = read(&[&format!("type=tar,dest={}", path.display())], false, false, &[]).unwrap();
        let opened = outputs.open().unwrap();
        let [Output::Tar { to, .. }] = opened.outputs.as_slice() else { panic!("{opened:?}") };
        to.lock().unwrap().write_all(b"half").unwrap();
        assert!(!path.exists());
        opened.keep().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"half");
        drop(outputs.open().unwrap());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        fs::remove_dir_all(&folder).unwrap();
    }
}
