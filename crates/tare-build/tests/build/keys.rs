//! What decides a step's result, and what does not: which steps run again after a change.

use crate::fake::{Doing, Fake, World, request, request_in};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::SystemTime;
use tare_build::request::{BuildRequest, SecretSource};
use tare_spec::Reference;

const DOCKERFILE: &str = "FROM base:1\nENV A=1\nCOPY a /a\nRUN [\"use-a\"]\nCOPY b /b\nRUN [\"use-b\"]\n";

/// Makes an image by this name.
fn base(world: &World, name: &str, dockerfile: &str, files: &[(&str, &str)]) {
    let names = vec![Reference::parse(name).unwrap()];
    world.image(&BuildRequest { names, ..request(dockerfile, files) });
}

/// A step that makes a file of its own name.
fn make(doing: &Doing<'_>) -> u8 {
    fs::write(doing.upper.join(doing.last()), "made").unwrap();
    0
}

/// What ran again, by its statements, and why.
fn ran(world: &World, fake: &Fake<'_>, request: &BuildRequest) -> Vec<(String, String)> {
    let built = world.build(fake, request).unwrap();
    let again = built.steps.iter().filter(|step| !step.cached);
    again.map(|step| (step.title.split_once("] ").unwrap().1.to_owned(), step.why.clone())).collect()
}

fn statements(ran: &[(String, String)]) -> Vec<&str> {
    ran.iter().map(|(statement, _)| statement.as_str()).collect()
}

fn context(world: &World) -> std::path::PathBuf {
    let folder = world.folder.path().join("context");
    fs::create_dir_all(&folder).unwrap();
    for name in ["a", "b", "c"] {
        fs::write(folder.join(name), name).unwrap();
    }
    folder
}

#[test]
fn what_changed_runs_again_and_nothing_else() {
    let Some(world) = World::new() else { return };
    base(&world, "base:1", "FROM scratch\nCOPY x /x\n", &[("x", "X")]);
    let fake = world.fake(&make);
    let folder = context(&world);
    ran(&world, &fake, &request_in(DOCKERFILE, &folder));
    let touch = |path: &Path| fs::File::open(path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    let (all, of_b) =
        (["COPY a /a", "RUN [\"use-a\"]", "COPY b /b", "RUN [\"use-b\"]"], ["COPY b /b", "RUN [\"use-b\"]"]);
    // What is done to the context; what runs again; why the first of it does.
    type Change<'a> = (&'a str, &'a dyn Fn(), &'a [&'a str], &'a str);
    let changes: [Change<'_>; 8] = [
        ("nothing", &|| {}, &[], ""),
        ("contents of a", &|| fs::write(folder.join("a"), "other").unwrap(), &all, "a changed"),
        ("contents of b", &|| fs::write(folder.join("b"), "other").unwrap(), &of_b, "b changed"),
        (
            "mode of b",
            &|| fs::set_permissions(folder.join("b"), fs::Permissions::from_mode(0o755)).unwrap(),
            &of_b,
            "b changed",
        ),
        ("times", &|| ["a", "b"].iter().for_each(|name| touch(&folder.join(name))), &[], ""),
        ("the owner", &|| std::os::unix::fs::chown(folder.join("a"), Some(4), Some(4)).unwrap(), &[], ""),
        ("a file that nobody copies", &|| fs::write(folder.join("c"), "other").unwrap(), &[], ""),
        ("a new file that nobody copies", &|| fs::write(folder.join("d"), "other").unwrap(), &[], ""),
    ];
    for (what, change, expected, why) in changes {
        change();
        let ran = ran(&world, &fake, &request_in(DOCKERFILE, &folder));
        assert_eq!(statements(&ran), expected, "{what}");
        if let Some((_, actual)) = ran.first() {
            assert_eq!(actual.trim_start_matches('/'), why, "{what}");
        }
        fake.take();
    }
    // What it was before is still known.
    fs::write(folder.join("a"), "a").unwrap();
    fs::write(folder.join("b"), "b").unwrap();
    fs::set_permissions(folder.join("b"), fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(ran(&world, &fake, &request_in(DOCKERFILE, &folder)), []);
}

#[test]
fn names_count_when_folders_are_copied() {
    let Some(world) = World::new() else { return };
    let fake = world.fake(&make);
    let build =
        |files: &[(&str, &str)]| statements(&ran(&world, &fake, &request("FROM scratch\nCOPY d /d\n", files))).len();
    assert_eq!(build(&[("d/a", "1")]), 1);
    assert_eq!(build(&[("d/b", "1")]), 1);
    assert_eq!(build(&[("d/a", "1"), ("e", "2")]), 0);
    assert_eq!(build(&[("d/a", "1"), ("d/b", "1")]), 1);
}

#[test]
fn statements_and_variables_count() {
    let Some(world) = World::new() else { return };
    base(&world, "base:1", "FROM scratch\nCOPY x /x\n", &[("x", "X")]);
    let fake = world.fake(&make);
    let folder = context(&world);
    let build = |dockerfile: &str| ran(&world, &fake, &request_in(dockerfile, &folder));
    build(DOCKERFILE);
    let (first, second) = ("RUN [\"use-a\"]", "RUN [\"use-b\"]");
    // RUN makes the same as before, so that what only copies does not run again.
    let changed = build(&DOCKERFILE.replace("A=1", "A=2"));
    assert_eq!(changed, [first, second].map(|step| (step.to_owned(), "variable A changed".to_owned())));
    for line in ["LABEL x=1", "USER 5", "EXPOSE 80", "ENTRYPOINT [\"x\"]"] {
        let changed = build(&DOCKERFILE.replace("ENV A=1", &format!("ENV A=1\n{line}")));
        assert_eq!(statements(&changed), [first, second], "{line}");
    }
    // The end of the file decides nothing of what is before.
    assert_eq!(build(&format!("{DOCKERFILE}LABEL x=1\nENV B=1\nCMD [\"x\"]\n")), []);
    assert_eq!(build(&format!("# a comment\n{DOCKERFILE}")), []);
    let changed = build(&DOCKERFILE.replace("use-b", "used-b"));
    assert_eq!(changed, [("RUN [\"used-b\"]".to_owned(), "the statement changed".to_owned())]);
    for flag in ["--chmod=700", "--chown=1:2", "--link"] {
        let changed = build(&DOCKERFILE.replace("COPY b", &format!("COPY {flag} b")));
        assert_eq!(statements(&changed)[0], format!("COPY {flag} b /b"), "{flag}");
    }
    for flag in ["--network=none", "--mount=type=tmpfs,target=/t", "--mount=type=bind,target=/t"] {
        let changed = build(&DOCKERFILE.replace("RUN [\"use-b", &format!("RUN {flag} [\"use-b")));
        assert_eq!(statements(&changed), [format!("RUN {flag} [\"use-b\"]")], "{flag}");
    }
}

#[test]
fn arguments_count_where_they_are_seen() {
    let Some(world) = World::new() else { return };
    let fake = world.fake(&make);
    let dockerfile = "FROM scratch\nRUN [\"before\"]\nARG A\nCOPY a /a\nRUN [\"sees-a\"]\nARG B\nCOPY a /of-$B\n";
    let build = |arguments: &[(&str, &str)]| {
        let arguments = arguments.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        ran(&world, &fake, &BuildRequest { arguments, ..request(dockerfile, &[("a", "A")]) })
    };
    assert_eq!(build(&[]).len(), 4);
    assert_eq!(statements(&build(&[("A", "1")])), ["RUN [\"sees-a\"]"]);
    assert_eq!(statements(&build(&[("B", "1")])), ["COPY a /of-1"]);
    assert_eq!(build(&[("OTHER", "1")]), []);
    assert_eq!(build(&[("HTTP_PROXY", "http://p"), ("no_proxy", "*")]), []);
    assert_eq!(fake.take(), ["before", "sees-a", "sees-a"]);
}

#[test]
fn values_of_secrets_do_not_count() {
    let Some(world) = World::new() else { return };
    let fake = world.fake(&make);
    let build = |id: &str, value: &str| {
        let secrets = BTreeMap::from([(id.to_owned(), SecretSource::Value(value.as_bytes().to_vec()))]);
        let dockerfile = format!("FROM scratch\nRUN --mount=type=secret,id={id},env=S [\"x\"]\n");
        ran(&world, &fake, &BuildRequest { secrets, ..request(&dockerfile, &[]) }).len()
    };
    let values = ["correct horse", "battery staple"];
    assert_eq!((build("s", values[0]), build("s", values[1]), build("t", values[0])), (1, 0, 1));
    // Neither the values nor digests of them are in what the cache keeps.
    let digests = values.map(|value| tare_store::sha256(value.as_bytes()).hex().to_owned());
    for folder in [world.folders.cache(), world.folders.last()] {
        for entry in fs::read_dir(folder).unwrap() {
            let text = fs::read_to_string(entry.unwrap().path()).unwrap();
            assert!(values.iter().all(|value| !text.contains(value)), "{text}");
            assert!(digests.iter().all(|digest| !text.contains(digest)), "{text}");
        }
    }
    let missing = request("FROM scratch\nRUN --mount=type=secret,id=u,required [\"x\"]\n", &[]);
    assert_eq!(world.build(&fake, &missing).unwrap_err().error.to_string(), "line 2: secret u: not found");
}

/// Row 15, CVE-2024-24557: an image with the same files and another configuration must not give its results to others.
#[test]
fn an_image_with_the_same_layers_does_not_poison_another() {
    let Some(world) = World::new() else { return };
    let files = [("x", "X")];
    base(&world, "base:1", "FROM scratch\nCOPY x /x\n", &files);
    let evil = [
        "ENV LD_PRELOAD=/evil.so",
        "USER evil",
        "WORKDIR /",
        "SHELL [\"/evil\"]",
        "LABEL evil=1",
        "ENTRYPOINT [\"/evil\"]",
        "STOPSIGNAL 9",
        "EXPOSE 1",
        "VOLUME /x",
        "HEALTHCHECK CMD evil",
        "ONBUILD LABEL evil=1",
    ];
    for (number, line) in evil.iter().enumerate() {
        let name = format!("evil:{number}");
        base(&world, &name, &format!("FROM scratch\nCOPY x /x\n{line}\n"), &files);
        let (one, other) = (world.store.find("base:1").unwrap(), world.store.find(&name).unwrap());
        assert_eq!(one.layers, other.layers);
        if one.config.config == other.config.config {
            continue; // WORKDIR / is what there was
        }
        let fake = world.fake(&make);
        let step = format!("RUN [\"step-{number}\"]");
        world.build(&fake, &request(&format!("FROM {name}\n{step}\n"), &[])).unwrap();
        world.build(&fake, &request(&format!("FROM base:1\n{step}\n"), &[])).unwrap();
        assert_eq!(fake.take().len(), 2, "{line}");
    }
}

#[test]
fn another_image_by_the_same_name_counts() {
    let Some(world) = World::new() else { return };
    let fake = world.fake(&make);
    let folder = context(&world);
    base(&world, "base:1", "FROM scratch\nCOPY x /x\n", &[("x", "X")]);
    ran(&world, &fake, &request_in(DOCKERFILE, &folder));
    base(&world, "base:1", "FROM scratch\nCOPY x /x\n", &[("x", "Y")]);
    let again = ran(&world, &fake, &request_in(DOCKERFILE, &folder));
    assert_eq!(again.len(), 4, "{again:?}");
    assert_eq!(again[0].1, "the image that it starts from changed");
    // A layer that fits onto any files stays.
    let linked = "FROM base:1\nCOPY --link a /linked\n";
    ran(&world, &fake, &request_in(linked, &folder));
    base(&world, "base:1", "FROM scratch\nCOPY x /x\n", &[("x", "Z")]);
    assert_eq!(ran(&world, &fake, &request_in(linked, &folder)), []);
}

#[test]
fn what_is_mounted_counts() {
    let Some(world) = World::new() else { return };
    let fake = world.fake(&make);
    let dockerfile = "FROM scratch AS tools\nCOPY t /t\nFROM scratch\nRUN --mount=target=/src,source=d --mount=from=tools,target=/tools --mount=type=cache,target=/c [\"x\"]\n";
    let build = |files: &[(&str, &str)]| {
        ran(&world, &fake, &request(dockerfile, files)).iter().any(|(statement, _)| statement.starts_with("RUN"))
    };
    assert!(build(&[("d/a", "1"), ("t", "1"), ("e", "1")]));
    assert!(!build(&[("d/a", "1"), ("t", "1"), ("e", "2")]));
    assert!(build(&[("d/a", "2"), ("t", "1"), ("e", "2")]));
    assert!(build(&[("d/a", "2"), ("t", "2"), ("e", "2")]));
    assert!(!build(&[("d/a", "1"), ("t", "1"), ("e", "1")]));
}
