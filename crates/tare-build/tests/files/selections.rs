//! Which files are meant. Needs no rights.

use crate::scratch::{Tree, context, fifo, listed, wish};
use std::os::unix::net::UnixListener;
use tare_build::files::{FilesError, Ignore, select};
use tare_spec::ErrorKind;

fn selected(tree: &Tree, ignore: Option<&Ignore>, line: &str) -> Result<Vec<String>, FilesError> {
    let root = tree.directory();
    select(&context(&root, ignore), &wish(line)).map(|selection| listed(&selection))
}

#[track_caller]
fn check(tree: &Tree, ignore: &str, cases: &[(&str, &[&str])]) {
    let ignore = Ignore::parse(ignore).unwrap();
    for (line, expected) in cases {
        assert_eq!(selected(tree, Some(&ignore), line).unwrap(), *expected, "COPY {line}");
    }
}

#[test]
fn sources_are_files_or_what_is_in_folders() {
    let tree = Tree::new(&[
        "a.txt",
        "b.txt",
        "dir/x.txt",
        "dir/sub/y.txt",
        "dir2/z.txt",
        "empty/",
        "link -> dir",
        "to-file -> dir/x.txt",
        "dir/up -> ../a.txt",
        "absolute -> /dir2/z.txt",
        "chain -> link/sub",
        "[id].txt",
        "back\\slash",
    ]);
    let dir = "sub/ sub/y.txt up@ x.txt";
    check(
        &tree,
        "",
        &[
            ("a.txt", &["a.txt = a.txt"]),
            ("/a.txt ./b.txt", &["a.txt = a.txt", "b.txt = b.txt"]),
            ("../../a.txt", &["a.txt = a.txt"]),
            ("dir/../a.txt", &["a.txt = a.txt"]),
            ("a.txt/", &["a.txt = a.txt"]),
            ("dir", &[&format!("/dir: {dir}")]),
            ("dir/. dir/", &[&format!("/dir: {dir}"), &format!("/dir: {dir}")]),
            ("empty", &["/empty: "]),
            // A source that is a link, or leads through one.
            ("link", &[&format!("/dir: {dir}")]),
            ("to-file", &["to-file = dir/x.txt"]),
            ("absolute", &["absolute = dir2/z.txt"]),
            ("chain/y.txt", &["y.txt = dir/sub/y.txt"]),
            ("link/up", &["up = a.txt"]),
            // Wildcards: in order, what they match is followed, what is on the way is not.
            ("*.txt", &["[id].txt = [id].txt", "a.txt = a.txt", "b.txt = b.txt"]),
            ("?.txt", &["a.txt = a.txt", "b.txt = b.txt"]),
            ("[^a].txt", &["b.txt = b.txt"]),
            ("di*", &[&format!("/dir: {dir}"), "/dir2: z.txt"]),
            ("*/*.txt", &["x.txt = dir/x.txt", "z.txt = dir2/z.txt"]),
            ("link/*.txt", &["x.txt = dir/x.txt"]),
            ("to-*", &["to-file = dir/x.txt"]),
            ("dir*/sub/y.txt", &["y.txt = dir/sub/y.txt"]),
            ("nothing*", &[]),
            ("a.txt nothing* */nothing", &["a.txt = a.txt"]),
            // Names that look like patterns.
            ("[id].txt", &["[id].txt = [id].txt"]),
            ("[[]id].txt", &["[id].txt = [id].txt"]),
            ("back\\slash", &["back\\slash = back\\slash"]),
        ],
    );
    let everything = selected(&tree, None, ".").unwrap();
    assert_eq!(everything.len(), 1);
    assert!(everything[0].starts_with("/: [id].txt a.txt absolute@ b.txt back\\slash chain@ dir/ dir/sub/"));
    assert_eq!(selected(&tree, None, "/").unwrap(), everything);
}

#[test]
fn a_source_that_is_not_there_is_an_error() {
    let tree = Tree::new(&["a", "dir/b", "dangling -> nowhere", "round -> round"]);
    let text = |line: &str| selected(&tree, None, line).unwrap_err().to_string();
    for (line, expected) in [
        ("nothing", "\"/nothing\": not found"),
        ("./dir/../dir/nothing/", "\"/dir/nothing\": not found"),
        ("a/b", "\"/a/b\": not found"),
        ("dangling", "\"/dangling\": not found"),
        ("d*g", "\"/dangling\": not found"),
        ("round", "too many symbolic links on the way to \"/round\""),
        ("--parents dir/nothing", "\"/dir/nothing\": not found"),
        ("--parents dir/./nothing", "\"/dir/nothing\": not found"),
        ("--parents nothing/./*", "\"/nothing\": not found"),
        ("--parents nothing/./x", "\"/nothing/x\": not found"),
    ] {
        assert_eq!(text(line), expected, "COPY {line}");
    }
    let error = selected(&tree, None, "a[").unwrap_err();
    assert!(matches!(error, FilesError::Pattern { .. }) && error.kind() == ErrorKind::InvalidParameter);
    let root = tree.directory();
    let unmatched = select(&context(&root, None), &wish("a x* y?")).unwrap().unmatched;
    assert_eq!(unmatched.iter().map(|one| one.source.as_str()).collect::<Vec<_>>(), ["x*", "y?"]);
}

#[test]
fn what_is_ignored_is_not_there() {
    let tree = Tree::new(&[
        "src/main.rs",
        "src/deep/keep.md",
        "src/deep/other",
        "target/debug/app",
        "target/keep",
        "notes.md",
        "README.md",
        "secret/key",
        "to-secret -> secret/key",
        "hidden-link -> src/main.rs",
        "only/ignored",
        "empty/",
    ]);
    let rules = "target\n!target/keep\n*.md\n!README.md\nsecret\nhidden-link\nonly/*\nempty\n**/other";
    check(
        &tree,
        rules,
        &[
            (".", &["/: README.md only/ src/ src/deep/ src/deep/keep.md src/main.rs target/ target/keep to-secret@"]),
            ("target", &["/target: keep"]),
            ("target/*", &["keep = target/keep"]),
            ("*.md", &["README.md = README.md"]),
            ("only", &["/only: "]),
            ("s*", &["/src: deep/ deep/keep.md main.rs"]),
            ("e*", &[]),
        ],
    );
    let ignore = Ignore::parse_file("app.dockerignore", rules).unwrap();
    for (line, expected) in [
        ("notes.md", "\"/notes.md\": not found: \"/notes.md\" is left out by line 3 of app.dockerignore: *.md"),
        ("secret/key", "\"/secret/key\": not found: \"/secret/key\" is left out by line 5 of app.dockerignore: secret"),
        ("to-secret", "\"/to-secret\": not found: \"/secret/key\" is left out by line 5 of app.dockerignore: secret"),
        (
            "hidden-link",
            "\"/hidden-link\": not found: \"/hidden-link\" is left out by line 6 of app.dockerignore: hidden-link",
        ),
        ("empty", "\"/empty\": not found: \"/empty\" is left out by line 8 of app.dockerignore: empty"),
        (
            "--parents src/deep/other",
            "\"/src/deep/other\": not found: \"/src/deep/other\" is left out by line 9 of app.dockerignore: **/other",
        ),
        ("nothing", "\"/nothing\": not found"),
    ] {
        assert_eq!(selected(&tree, Some(&ignore), line).unwrap_err().to_string(), expected, "COPY {line}");
    }
    let root = tree.directory();
    let selection = select(&context(&root, Some(&ignore)), &wish("n*.md")).unwrap();
    assert_eq!(selection.unmatched[0].hidden.as_ref().unwrap().line, 3);
}

#[test]
fn exclusions_count_from_the_source() {
    let tree = Tree::new(&["dir1/a.png", "dir1/a.txt", "dir1/sub/b.png", "dir2/c.pdf", "dir2/c.png", "x.png", "x.txt"]);
    check(
        &tree,
        "",
        &[
            ("--exclude=*/*.png .", &["/: dir1/ dir1/a.txt dir1/sub/ dir1/sub/b.png dir2/ dir2/c.pdf x.png x.txt"]),
            ("--exclude=**/*.png .", &["/: dir1/ dir1/a.txt dir1/sub/ dir2/ dir2/c.pdf x.txt"]),
            ("--exclude=*.png dir1", &["/dir1: a.txt sub/ sub/b.png"]),
            ("--exclude=*.png dir*", &["/dir1: a.txt sub/ sub/b.png", "/dir2: c.pdf"]),
            ("--exclude=* dir*", &["/dir1: ", "/dir2: "]),
            ("--exclude=sub dir1/", &["/dir1: a.png a.txt"]),
            ("--exclude=sub --exclude=!sub/b.png dir1", &["/dir1: a.png a.txt sub/? sub/b.png"]),
            ("--exclude=/sub dir1", &["/dir1: a.png a.txt sub/ sub/b.png"]),
            // A file that a wildcard finds; one that is named is wanted.
            ("--exclude=*.png x*", &["x.txt = x.txt"]),
            ("--exclude=*.png x.png", &["x.png = x.png"]),
        ],
    );
    let error = selected(&tree, None, "--exclude=[ .").unwrap_err();
    assert!(matches!(error, FilesError::Patterns(_)));
}

#[test]
fn parents_are_kept_up_to_the_pivot() {
    let tree = Tree::new(&[
        "a/b/c/d/foo",
        "a/b/c/d/e/bay",
        "a/b2/c/d/e/bar",
        "a/b/c2/d/e/baz",
        "a/b/c2/d/e2/baz",
        "link -> a/b",
        "top.txt",
    ]);
    check(
        &tree,
        "",
        &[
            ("--parents a/b/c/d/foo", &["/: a/? a/b/? a/b/c/? a/b/c/d/? a/b/c/d/foo"]),
            ("--parents ./a/b2", &["/: a/? a/b2/ a/b2/c/ a/b2/c/d/ a/b2/c/d/e/ a/b2/c/d/e/bar"]),
            ("--parents a/b2/c/.", &["/: a/? a/b2/? a/b2/c/ a/b2/c/d/ a/b2/c/d/e/ a/b2/c/d/e/bar"]),
            ("--parents /a/b/./c/d", &["/a/b: c/? c/d/ c/d/e/ c/d/e/bay c/d/foo"]),
            ("--parents a/./b2/./c", &["/a: b2/? b2/c/ b2/c/d/ b2/c/d/e/ b2/c/d/e/bar"]),
            ("--parents a/./*/c/d/foo", &["/a: b/? b/c/? b/c/d/? b/c/d/foo"]),
            ("--parents a/b*/./c/**/e", &["/a/b: c/? c/d/? c/d/e/ c/d/e/bay", "/a/b2: c/? c/d/? c/d/e/ c/d/e/bar"]),
            ("--parents a/b/c*/./d/**/baz", &["/a/b/c: ", "/a/b/c2: d/? d/e/? d/e/baz d/e2/? d/e2/baz"]),
            ("--parents link/./c2/d/e", &["/a/b: c2/? c2/d/? c2/d/e/ c2/d/e/baz"]),
            ("--parents top.txt", &["/: top.txt"]),
            (
                "--parents **/baz",
                &["/: a/? a/b/? a/b/c2/? a/b/c2/d/? a/b/c2/d/e/? a/b/c2/d/e/baz a/b/c2/d/e2/? a/b/c2/d/e2/baz"],
            ),
            ("--parents a/x*", &["/: "]),
            ("--parents --exclude=**/e a/b2/c", &["/: a/? a/b2/? a/b2/c/ a/b2/c/d/"]),
            ("--parents a/b2/./.", &["/a/b2: c/ c/d/ c/d/e/ c/d/e/bar"]),
        ],
    );
    // Links on the way are followed up to the pivot only.
    let error = selected(&tree, None, "--parents link/c2").unwrap_err();
    assert_eq!(error.to_string(), "\"/link/c2\": not found");
}

#[test]
fn special_files_are_taken_or_refused() {
    let tree = Tree::new(&["dir/file"]);
    fifo(&tree.path().join("dir/fifo"));
    let _socket = UnixListener::bind(tree.path().join("dir/socket")).unwrap();
    check(&tree, "", &[("dir", &["/dir: fifo file"]), ("dir/fifo", &["fifo = dir/fifo"])]);
    let error = selected(&tree, None, "dir/socket").unwrap_err();
    assert_eq!(error.to_string(), "cannot copy \"/dir/socket\": it is a socket");
}

#[test]
fn metadata_of_a_context_does_not_matter() {
    let tree = Tree::new(&["640 dir/file"]);
    let root = tree.directory();
    let selection = select(&context(&root, None), &wish("dir")).unwrap();
    let entry = &selection.items[0].entries[0];
    assert_eq!((entry.mode, entry.uid, entry.gid, entry.size), (0o640, 0, 0, 8));
    assert_eq!((entry.mtime, entry.attributes.len(), entry.identity), (Default::default(), 0, None));
    assert_eq!(selection.paths().map(|(path, _)| path).collect::<Vec<_>>(), ["/dir/file"]);
}
