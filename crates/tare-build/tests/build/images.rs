//! Whole builds, judged by the trees and documents they leave. Layers need root's rights.

use crate::fake::{World, archive, request, request_in, request_with};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use tare_build::request::{BuildRequest, Times};
use tare_spec::{ErrorKind, Reference};
use tare_store::{ImageRecord, Store};

/// The time of all that starts from nothing: 1980-01-01.
const EARLIEST: i64 = 315_532_800;

/// Paths of one layer with type, mode and owner, sorted.
fn layer(store: &Store, image: &ImageRecord, index: usize) -> Vec<String> {
    fn walk(root: &Path, path: &Path, lines: &mut Vec<String>) {
        let mut entries: Vec<PathBuf> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            let found = fs::symlink_metadata(&path).unwrap();
            let kind = if found.is_dir() {
                "/"
            } else if found.is_symlink() {
                "@"
            } else {
                ""
            };
            let shown = path.strip_prefix(root).unwrap().display();
            lines.push(format!("{shown}{kind} {:o} {}:{}", found.mode() & 0o7777, found.uid(), found.gid()));
            assert_eq!(found.mtime(), EARLIEST, "{shown}");
            if found.is_dir() {
                walk(root, &path, lines);
            }
        }
    }
    let mounted = store.layers().mount(&image.layers[index..=index]).unwrap();
    let root = mounted.layer(0).unwrap();
    let mut lines = Vec::new();
    walk(root, root, &mut lines);
    lines
}

#[test]
fn layers_hold_what_was_copied() {
    let Some(world) = World::new() else { return };
    let dockerfile = "FROM scratch\nCOPY --chmod=755 a /bin/tool\nWORKDIR /srv/app\nCOPY d ./\nCOPY [\"a\", \"d/b\", \"new folder/\"]\nENV X=1\nCOPY --chown=5:6 d /srv/app\nCOPY a /srv/app\nWORKDIR /srv\n";
    let image = world.image(&request(dockerfile, &[("a", "A"), ("d/b", "B"), ("d/e/f", "F")]));
    let app = "srv/app/ 755 0:0";
    let expected: [&[&str]; 6] = [
        &["bin/ 755 0:0", "bin/tool 755 0:0"],
        &["srv/ 755 0:0", app],
        &["srv/ 755 0:0", app, "srv/app/b 644 0:0", "srv/app/e/ 755 0:0", "srv/app/e/f 644 0:0"],
        &[
            "srv/ 755 0:0",
            app,
            "srv/app/new folder/ 755 0:0",
            "srv/app/new folder/a 644 0:0",
            "srv/app/new folder/b 644 0:0",
        ],
        // The destination is there and keeps its owner; what is copied over it does not.
        &["srv/ 755 0:0", app, "srv/app/b 644 5:6", "srv/app/e/ 755 5:6", "srv/app/e/f 644 5:6"],
        &["srv/ 755 0:0", app, "srv/app/a 644 0:0"],
    ];
    for (index, expected) in expected.iter().enumerate() {
        assert_eq!(layer(&world.store, &image, index), *expected, "layer {index}");
    }
    // As with BuildKit, WORKDIR of a directory that is there makes a layer all the same, an empty one.
    assert_eq!(image.layers.len(), 7);
    let history = &image.config.history;
    assert_eq!(history.len(), 8);
    assert_eq!(history.iter().filter(|entry| entry.empty_layer).count(), 1);
    let texts: Vec<_> = history.iter().map(|entry| entry.created_by.as_deref().unwrap()).collect();
    assert_eq!(texts[0], "COPY --chmod=755 a /bin/tool # buildkit");
    assert_eq!((texts[1], texts[4], texts[7]), ("WORKDIR /srv/app", "ENV X=1", "WORKDIR /srv"));
    assert!(history.iter().all(|entry| entry.comment.as_deref() == Some("buildkit.dockerfile.v0")));
    assert_eq!(image.config.created.as_deref(), Some("1980-01-01T00:00:00Z"));
    let config = image.config.config.unwrap();
    assert_eq!((config.working_dir.as_str(), config.env.len()), ("/srv", 2));
}

#[test]
fn the_same_files_make_the_same_image_wherever_they_are() {
    let (Some(one), Some(two)) = (World::new(), World::new()) else { return };
    let dockerfile = "FROM scratch\nCOPY . /\n";
    let mut images = Vec::new();
    for (world, name) in [(&one, "one"), (&two, "two")] {
        let context = world.folder.path().join(name);
        fs::create_dir_all(context.join("d/e")).unwrap();
        let mut files = ["d.txt", "d/a", "d/e/b", "c"];
        if name == "two" {
            files.reverse();
        }
        for file in files {
            fs::write(context.join(file), file).unwrap();
            fs::set_permissions(context.join(file), fs::Permissions::from_mode(0o640)).unwrap();
        }
        if name == "two" {
            std::os::unix::fs::chown(context.join("c"), Some(1234), Some(99)).unwrap();
            let old = std::time::SystemTime::UNIX_EPOCH;
            fs::File::open(context.join("d/a")).unwrap().set_modified(old).unwrap();
        }
        symlink("/etc/passwd", context.join("link")).unwrap();
        images.push(world.image(&request_in(dockerfile, &context)));
    }
    assert_eq!((&images[0].id, &images[0].manifest), (&images[1].id, &images[1].manifest));
    assert!(layer(&one.store, &images[0], 0).contains(&"link@ 777 0:0".to_owned()));
    // An archive that holds the same is no other context.
    let files = [("c", "c", 0o640), ("d/e/b", "d/e/b", 0o640), ("d/a", "d/a", 0o640)];
    let first = one.image(&request_with("FROM scratch\nCOPY d c /\n", &archive(&files)));
    let folder = two.folder.path().join("two");
    assert_eq!(first.id, two.image(&request_in("FROM scratch\nCOPY d c /\n", &folder)).id);
}

#[test]
fn times_are_as_asked() {
    let Some(world) = World::new() else { return };
    let build = |times, arguments: &[(&str, &str)]| {
        let arguments = arguments.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        world.image(&BuildRequest { times, arguments, ..request("FROM scratch\nCOPY a /a\n", &[("a", "A")]) })
    };
    let of_base = build(Times::OfBase, &[]);
    let at = build(Times::At(jiff::Timestamp::from_second(86_400).unwrap()), &[]);
    let argument = build(Times::OfBase, &[("SOURCE_DATE_EPOCH", "86400")]);
    assert_eq!(at.config.created.as_deref(), Some("1970-01-02T00:00:00Z"));
    assert_eq!(at.layers, argument.layers);
    assert_ne!(at.layers, of_base.layers);
    let before = jiff::Timestamp::now();
    let kept = build(Times::Kept, &[]);
    assert!(kept.config.created.unwrap().parse::<jiff::Timestamp>().unwrap() >= before);
    let wrong = BuildRequest {
        arguments: [("SOURCE_DATE_EPOCH".to_owned(), "yesterday".to_owned())].into(),
        ..request("FROM scratch\n", &[])
    };
    assert!(world.error(&wrong).0.contains("SOURCE_DATE_EPOCH"), "{:?}", world.error(&wrong));
}

#[test]
fn nothing_outside_of_the_context_is_read() {
    let Some(world) = World::new() else { return };
    let context = world.folder.path().join("context");
    fs::create_dir_all(context.join("etc")).unwrap();
    fs::write(world.folder.path().join("secret"), "secret").unwrap();
    fs::write(context.join("etc/passwd"), "inside").unwrap();
    symlink("../secret", context.join("up")).unwrap();
    symlink("/etc", context.join("absolute")).unwrap();
    symlink("/proc/self/root/etc", context.join("magic")).unwrap();
    let attempt = |source: &str| request_in(&format!("FROM scratch\nCOPY {source} /x\n"), &context);
    for source in ["../secret", "magic/passwd", "absolute/shadow"] {
        let (text, kind) = world.error(&attempt(source));
        assert!(text.starts_with("line 2: \"/") && text.contains("not found"), "{source}: {text}");
        assert_eq!(kind, ErrorKind::NotFound);
    }
    // A link that is copied is a link, or what it leads to inside; never what it leads to outside.
    let (text, _) = world.error(&attempt("up"));
    assert!(text.contains("not found"), "{text}");
    let image = world.image(&attempt("absolute/passwd"));
    assert_eq!(world.read(&image, "x").as_deref(), Some("inside"));
    rustix::fs::mknodat(rustix::fs::CWD, context.join("fifo"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    // Copied as what it is; reading it would wait for ever.
    let image = world.image(&attempt("fifo"));
    let mounted = world.store.layers().mount(&image.layers).unwrap();
    let found = fs::symlink_metadata(mounted.layer(0).unwrap().join("x")).unwrap();
    assert!(std::os::unix::fs::FileTypeExt::is_fifo(&found.file_type()));
    fs::write(context.join(".dockerignore"), "# nothing of it\netc\n!etc/none\n").unwrap();
    let (text, _) = world.error(&attempt("etc/passwd"));
    assert_eq!(text, "line 2: \"/etc/passwd\": not found: \"/etc/passwd\" is left out by line 2 of .dockerignore: etc");
}

#[test]
fn what_contradicts_the_image_is_refused_and_nothing_is_named() {
    let Some(world) = World::new() else { return };
    let files = [("a", "A"), ("d/b", "B")];
    let named = |dockerfile: &str| {
        let names = vec![Reference::parse("app:latest").unwrap()];
        BuildRequest { names, ..request(dockerfile, &files) }
    };
    for (dockerfile, text) in [
        ("FROM scratch\nCOPY nothing /x\n", "line 2: \"/nothing\": not found"),
        ("FROM scratch\nCOPY a/b /x\n", "line 2: \"/a/b\": not found"),
        (
            "FROM scratch AS one\nCOPY a /a\nFROM scratch\nCOPY --from=one b /x\n",
            "line 4: \"/b\": not found in stage one",
        ),
        (
            "FROM scratch AS none\nFROM scratch\nCOPY --from=none b /x\n",
            "line 3: \"b\": not found in a stage without files",
        ),
        ("FROM scratch\nCOPY a /x\n\nCOPY a /x/y\n", "line 4: cannot copy to \"/x\": \"/x\" is not a directory"),
        (
            "FROM scratch\nCOPY d /x/b\nCOPY d/b /x/\n",
            "line 3: cannot replace to directory /x/b with file: \"/d/b\" is no folder",
        ),
        ("FROM scratch\nCOPY --chown=web a /\n", "line 2: "),
        ("FROM scratch\nRUN --device=x true\n", "dockerfile parse error on line 2: "),
        ("FROM nothing:here\nCOPY a /\n", "nothing:here: failed to resolve source metadata: no such image"),
    ] {
        let (actual, _) = world.error(&named(dockerfile));
        assert!(actual.to_lowercase().starts_with(&text.to_lowercase()) || actual == text, "{dockerfile}: {actual}");
    }
    assert_eq!(world.store.images().unwrap(), []);
    let image = world.image(&request("FROM scratch\n", &[]));
    assert_eq!((image.layers.len(), image.size), (0, 0));
}

#[test]
fn what_is_fetched_is_checked_and_copied() {
    let Some(world) = World::new() else { return };
    let url = "http://files.example/f.txt";
    let fake = world.fake(&|_| 1).serving(url, b"hello");
    let sum = tare_store::sha256(b"hello");
    let good = request(&format!("FROM scratch\nADD --checksum={sum} {url} /dir/\nADD {url} /other\n"), &[]);
    let image = world.record(&world.build(&fake, &good).unwrap());
    assert_eq!(layer(&world.store, &image, 0), ["dir/ 755 0:0", "dir/f.txt 600 0:0"]);
    assert_eq!(world.read(&image, "other").as_deref(), Some("hello"));
    let other = tare_store::sha256(b"else");
    let bad = request(&format!("FROM scratch\nADD --checksum={other} {url} /\n"), &[]);
    let error = world.build(&fake, &bad).unwrap_err().error;
    assert_eq!(error.to_string(), format!("digest mismatch for {url}: expected {other}, got {sum}"));
    // What a URL brings decides what follows, not its name.
    let changed = world.fake(&|_| 1).serving(url, b"changed");
    let again = request(&format!("FROM scratch\nADD {url} /other\n"), &[]);
    let image = world.record(&world.build(&changed, &again).unwrap());
    assert_eq!(world.read(&image, "other").as_deref(), Some("changed"));
    // Of two files with one name the later one stays, wherever they come from.
    for (sources, expected) in [(format!("f.txt {url}"), "changed"), (format!("{url} f.txt"), "local")] {
        let mixed = request(&format!("FROM scratch\nADD {sources} /in/\n"), &[("f.txt", "local")]);
        let image = world.record(&world.build(&changed, &mixed).unwrap());
        assert_eq!(world.read(&image, "in/f.txt").as_deref(), Some(expected), "{sources}");
    }
    // A reference of git brings a tree.
    let git = request("FROM scratch\nADD https://git.example/r.git#v1 /src/\n", &[]);
    let image = world.record(&world.build(&changed, &git).unwrap());
    assert_eq!(world.read(&image, "src/remote").as_deref(), Some("https://git.example/r.git"));
}

#[test]
fn a_stage_gives_its_files_to_another() {
    let Some(world) = World::new() else { return };
    let dockerfile = "FROM scratch AS one\nCOPY --chown=3:4 a /x/a\nCOPY --chmod=600 d /x/d\nFROM scratch\nCOPY --from=one /x /y\nCOPY --from=0 --parents --exclude=**/e /x/d /p/\nCOPY <<a <<b /docs/\nfrom a\na\nfrom b\nb\n";
    let image = world.image(&request(dockerfile, &[("a", "A"), ("d/b", "B"), ("d/e/f", "F")]));
    let owned = layer(&world.store, &image, 0);
    assert!(owned.contains(&"y/a 644 3:4".to_owned()), "{owned:?}");
    let parents = layer(&world.store, &image, 1);
    assert!(parents.contains(&"p/x/d/b 600 0:0".to_owned()), "{parents:?}");
    assert!(!parents.iter().any(|line| line.contains("/e")), "{parents:?}");
    assert_eq!(world.read(&image, "docs/b").as_deref(), Some("from b\n"));
    assert_eq!(image.layers.len(), 3);
}

/// As BuildKit does: what WORKDIR makes is the user's.
#[test]
fn folders_of_workdir_are_the_users() {
    let Some(world) = World::new() else { return };
    let dockerfile =
        "FROM scratch\nCOPY passwd /etc/\nWORKDIR /root-owned\nUSER web\nWORKDIR /srv/app\nUSER 7:8\nWORKDIR more\n";
    let image = world.image(&request(dockerfile, &[("passwd", "web:x:33:34::/:/bin/sh\n")]));
    assert_eq!(layer(&world.store, &image, 1), ["root-owned/ 755 0:0"]);
    assert_eq!(layer(&world.store, &image, 2), ["srv/ 755 33:34", "srv/app/ 755 33:34"]);
    assert!(layer(&world.store, &image, 3).contains(&"srv/app/more/ 755 7:8".to_owned()));
    let (text, _) = world.error(&request("FROM scratch\nUSER nobody\nWORKDIR /x\n", &[]));
    assert!(text.starts_with("line 3: ") && text.contains("nobody"), "{text}");
}
