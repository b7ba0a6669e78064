//! Which files a COPY or ADD means.
//!
//! As BuildKit has it: a source may be a link and may lead through links, inside of its root; what is below a folder is taken as it
//! is. A folder stands for what is in it. A source without wildcards must be there; wildcards may match nothing. What an ignore
//! file leaves out is not there, and a folder of which everything is left out is not there either.

use super::error::{FilesError, Hidden, io_error, shown};
use super::fingerprint::FileStamp;
use super::ignore::{Ignore, clean};
use super::pattern::{Glob, Scratch, Stars, has_wildcards};
use super::resolve::{Looker, Seen, join, name, parent, resolve};
use super::walk::{ENTRIES, Filter, Place, Walk, describe};
use super::{Source, SourceKind, Wish};
use rustix::fs::FileType;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use tare_store::tar::{Kind, Time};
use tare_sys::directory::{Directory, Metadata};

/// The files that a COPY or ADD means, as plain data in a fixed order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// What they come from.
    pub kind: SourceKind,
    /// Whether files among [`Selection::items`] that are archives are unpacked.
    pub unpack: bool,
    /// In the order of the sources, and of one source's matches in the order of their names.
    pub items: Vec<Item>,
    /// The sources with wildcards that match nothing, which is no error.
    pub unmatched: Vec<Unmatched>,
}

/// What a source stands for, or one of the files that it matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The name that it has in a folder that it is put into: the link's, if the source is a link.
    pub name: Vec<u8>,
    /// Where it is, from the source's root, without leading slash and without links on the way.
    pub path: Vec<u8>,
    /// Whether it is a folder, of which the contents are meant.
    pub is_folder: bool,
    /// Sorted, each folder before what is in it. Of a folder: what is below it. Of anything else: only itself, with an empty path.
    pub entries: Vec<Entry>,
}

/// A file, folder or link. In a [`SourceKind::Context`] owners, times and attributes are not looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Below the item's path.
    pub path: Vec<u8>,
    /// What it is; never [`Kind::HardLink`].
    pub kind: Kind,
    /// The twelve permission bits.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Time of last change of the contents.
    pub mtime: Time,
    /// Bytes of a file.
    pub size: u64,
    /// The text of a symbolic link.
    pub link: Vec<u8>,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// The same for all names of one regular file; absent where it has only one.
    pub identity: Option<(u64, u64)>,
    /// Extended attributes, without those of this machine.
    pub attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    /// A folder that is meant only as the way to something in it.
    pub is_implied: bool,
    /// What tells whether a file is still the one that it was.
    pub(super) stamp: FileStamp,
}

/// A source with wildcards that matches nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmatched {
    /// As it is written.
    pub source: String,
    /// The rule that leaves out the first file that it would match.
    pub hidden: Option<Hidden>,
}

impl Selection {
    /// All files with the paths that they have in the source, with a leading slash, for people to read.
    pub fn paths(&self) -> impl Iterator<Item = (String, &Entry)> {
        let paths = |item: &'_ Item, entry: &'_ Entry| shown(&join(&item.path, &entry.path));
        self.items.iter().flat_map(move |item| item.entries.iter().map(move |entry| (paths(item, entry), entry)))
    }
}

/// Finds the files that are meant. Reads folders, but no file.
///
/// # Errors
/// [`FilesError::NotFound`] for a source without wildcards that is not there or is left out; of reading folders.
pub fn select(source: &Source<'_>, wish: &Wish) -> Result<Selection, FilesError> {
    let exclude = Ignore::patterns("--exclude", wish.exclude.iter().map(String::as_str));
    let mut selector = Selector {
        source,
        looker: Looker::new(source.root),
        exclude: exclude.map_err(FilesError::Patterns)?,
        scratch: Scratch::default(),
        left: ENTRIES,
    };
    let mut selection = Selection { kind: source.kind, unpack: wish.unpack, items: Vec::new(), unmatched: Vec::new() };
    for written in &wish.sources {
        if wish.parents {
            selector.with_parents(written, &mut selection)?;
        } else {
            selector.plain(written, &mut selection)?;
        }
    }
    Ok(selection)
}

struct Selector<'a> {
    source: &'a Source<'a>,
    looker: Looker<'a>,
    exclude: Ignore,
    scratch: Scratch,
    left: usize,
}

/// Something that a source leads to.
struct Located {
    name: Vec<u8>,
    path: Vec<u8>,
    metadata: Metadata,
}

/// What a source without wildcards leads to, or what leaves that out.
type Sought = Result<Located, Option<Hidden>>;

impl Selector<'_> {
    fn plain(&mut self, written: &str, selection: &mut Selection) -> Result<(), FilesError> {
        let cleaned = clean(&format!("/{written}"));
        let (located, mut hidden) = self.matches(&cleaned)?;
        let by_name = !has_wildcards(&cleaned);
        let mut matched = false;
        for located in located {
            let path = located.path.clone();
            let Some(item) = self.item(located, by_name, None)? else {
                hidden = hidden.or_else(|| self.hidden(&path));
                continue;
            };
            matched = true;
            selection.items.extend(item);
        }
        if !matched {
            if by_name {
                return Err(FilesError::NotFound { path: cleaned, hidden });
            }
            selection.unmatched.push(Unmatched { source: written.to_owned(), hidden });
        }
        Ok(())
    }

    /// `--parents`: what is before `/./` is where to begin, and what is behind it a pattern for paths below.
    fn with_parents(&mut self, written: &str, selection: &mut Selection) -> Result<(), FilesError> {
        let (base, pattern) = written.split_once("/./").unwrap_or(("/", written));
        let (base, pattern) = (clean(&format!("/{base}")), clean(&format!("/{pattern}")));
        let wanted = pattern.trim_start_matches('/');
        let include = Ignore::patterns("--parents", [wanted]).map_err(FilesError::Patterns)?;
        let by_name = !has_wildcards(&base) && !has_wildcards(&pattern);
        let (located, mut hidden) = self.matches(&base)?;
        if located.is_empty() && !by_name && !has_wildcards(&base) {
            return Err(FilesError::NotFound { path: base, hidden });
        }
        let mut matched = false;
        for located in located {
            let path = located.path.clone();
            let include = Some(&include).filter(|_| !wanted.is_empty());
            if let Some(Some(item)) = self.item(located, true, include)? {
                matched |= !by_name || !item.is_folder || wanted.is_empty() || !item.entries.is_empty();
                selection.items.push(item);
            }
            if !matched && hidden.is_none() {
                hidden = self.hidden(&join(&path, wanted.as_bytes()));
            }
        }
        if !matched {
            let whole = clean(&format!("{base}{pattern}"));
            if by_name {
                return Err(FilesError::NotFound { path: whole, hidden });
            }
            selection.unmatched.push(Unmatched { source: written.to_owned(), hidden });
        }
        Ok(())
    }

    /// What a cleaned source stands for. Without wildcards it is one thing or none.
    fn matches(&mut self, cleaned: &str) -> Result<(Vec<Located>, Option<Hidden>), FilesError> {
        let literal = self.locate(cleaned.as_bytes())?;
        if !has_wildcards(cleaned) {
            return Ok(match literal {
                Ok(located) => (vec![located], None),
                Err(hidden) => (Vec::new(), hidden),
            });
        }
        let components: Vec<&str> = cleaned.split('/').skip(1).collect();
        let first = components.iter().position(|component| has_wildcards(component)).unwrap_or_default();
        let globs: Result<Vec<Glob>, _> =
            components[first..].iter().map(|component| Glob::parse(component, Stars::Same)).collect();
        let globs = match globs {
            Ok(globs) => globs,
            // No pattern, but perhaps the name of a file.
            Err(source) => match literal {
                Ok(located) => return Ok((vec![located], None)),
                Err(_) => return Err(FilesError::Pattern { source_path: cleaned.to_owned(), source }),
            },
        };
        let (mut found, mut hidden) = (Vec::new(), None);
        match self.locate(components[..first].join("/").as_bytes())? {
            Ok(located) => self.expand(&located.path, &globs, &mut found, &mut hidden)?,
            Err(by) => hidden = by,
        }
        let mut matches = Vec::new();
        for path in found {
            match self.locate(&path)? {
                Ok(located) => matches.push(located),
                Err(hidden) => return Err(FilesError::NotFound { path: shown(&path), hidden }),
            }
        }
        if matches.is_empty()
            && let Ok(located) = literal
        {
            matches.push(located);
        }
        Ok((matches, hidden))
    }

    /// The paths below a folder that match component by component. Links are not followed on the way.
    fn expand(
        &mut self,
        folder: &[u8],
        globs: &[Glob],
        found: &mut Vec<Vec<u8>>,
        hidden: &mut Option<Hidden>,
    ) -> Result<(), FilesError> {
        let Some((glob, rest)) = globs.split_first() else { return Ok(()) };
        let Some(directory) = self.looker.folder(folder)? else { return Ok(()) };
        let mut names = directory.names().map_err(io_error("list", folder))?;
        names.retain(|name| glob.matches(name.as_bytes(), &mut self.scratch));
        names.sort();
        for name in names {
            let path = join(folder, name.as_bytes());
            let Some(metadata) = self.looker.metadata(&path)? else { continue };
            let is_folder = metadata.file_type == FileType::Directory;
            if let Some(by) = self.hidden(&path) {
                let ignore = self.source.ignore;
                if !is_folder || !ignore.is_some_and(|ignore| ignore.may_contain(&path)) {
                    hidden.get_or_insert(by);
                    continue;
                }
            }
            if rest.is_empty() {
                found.push(path);
            } else if is_folder {
                self.expand(&path, rest, found, hidden)?;
            }
        }
        Ok(())
    }

    /// What a path leads to. Links that are left out lead nowhere.
    fn locate(&mut self, path: &[u8]) -> Result<Sought, FilesError> {
        let mut hidden = None;
        let (looker, ignore) = (&mut self.looker, self.source.ignore);
        let resolved = resolve(path, &mut |at| {
            let seen = looker.look(at)?;
            if let (Seen::Link(_), Some(by)) = (&seen, hides(ignore, at)) {
                hidden = Some(by);
                return Ok(Seen::Missing);
            }
            Ok(seen)
        })?;
        let Some(metadata) = self.looker.metadata(&resolved)? else { return Ok(Err(hidden)) };
        if metadata.file_type != FileType::Directory
            && let Some(by) = hidden.or_else(|| self.hidden(&resolved))
        {
            return Ok(Err(Some(by)));
        }
        Ok(Ok(Located { name: name(path).to_vec(), path: resolved, metadata }))
    }

    fn hidden(&self, path: &[u8]) -> Option<Hidden> {
        hides(self.source.ignore, path)
    }

    /// The item that something is. `None` when it is not there because all of it is left out, `Some(None)` when `--exclude` leaves
    /// out what it is.
    fn item(
        &mut self,
        located: Located,
        by_name: bool,
        include: Option<&Ignore>,
    ) -> Result<Option<Option<Item>>, FilesError> {
        let Located { name: own, path, metadata } = located;
        let is_folder = metadata.file_type == FileType::Directory;
        let mut entries = Vec::new();
        if is_folder {
            let Some(folder) = self.looker.folder(&path)? else {
                return Err(FilesError::Changed { path: shown(&path) });
            };
            // Another handle: this one's is moved on.
            let folder = Directory::of(folder).map_err(io_error("open", &path))?;
            let filter = Filter { source: self.source, exclude: &self.exclude, include };
            let mut walk = Walk::new(filter, &path, &mut self.scratch, &mut self.left);
            walk.run(&folder)?;
            let is_alive = walk.is_alive;
            entries = walk.entries;
            if !is_alive {
                return Ok(None);
            }
        } else {
            // The documents say that what `--exclude` matches is not copied even if a wildcard matches it.
            if !by_name && self.exclude.verdict(&own).ignored {
                return Ok(Some(None));
            }
            let what = match metadata.file_type {
                FileType::Socket => Some("a socket"),
                FileType::RegularFile | FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice => None,
                // It was resolved.
                _ => return Err(FilesError::Changed { path: shown(&path) }),
            };
            if let Some(what) = what {
                return Err(FilesError::Special { path: shown(&path), what });
            }
            let Some(folder) = self.looker.folder(parent(&path))? else {
                return Err(FilesError::Changed { path: shown(&path) });
            };
            let place = Place { folder, name: OsStr::from_bytes(name(&path)), path: &path };
            entries.extend(describe(self.source.kind, &place, Vec::new(), &metadata)?);
        }
        Ok(Some(Some(Item { name: own, path, is_folder, entries })))
    }
}

/// The rule that leaves a path out.
fn hides(ignore: Option<&Ignore>, path: &[u8]) -> Option<Hidden> {
    let ignore = ignore?;
    let verdict = ignore.verdict(path);
    let rule = verdict.rule.filter(|_| verdict.ignored)?;
    Some(Hidden { file: ignore.file().to_owned(), line: rule.line, rule: rule.text.clone(), path: shown(path) })
}
