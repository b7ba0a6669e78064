//! In which order steps are done, and how often.

use crate::fake::{Doing, Flag, Recorder, World, request};
use std::fs;
use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tare_build::cache::CachedStep;
use tare_build::request::{BuildRequest, CacheFrom, NoCache};
use tare_spec::Reference;

#[test]
fn stages_that_do_not_need_each_other_run_at_once() {
    let Some(world) = World::new() else { return };
    let (left, right) = (Flag::default(), Flag::default());
    // Each waits for the other: one after the other they would wait for ever.
    let act = |doing: &Doing<'_>| {
        let (own, other) = if doing.last() == "left" { (&left, &right) } else { (&right, &left) };
        own.set();
        other.wait();
        fs::write(doing.upper.join(doing.last()), "made").unwrap();
        0
    };
    let dockerfile = "FROM scratch AS a\nRUN [\"left\"]\nFROM scratch AS b\nRUN [\"right\"]\nFROM scratch\nCOPY --from=a /left /\nCOPY --from=b /right /\n";
    let built = world.build(&world.fake(&act), &request(dockerfile, &[])).unwrap();
    let image = world.record(&built);
    assert_eq!(world.read(&image, "left").as_deref(), Some("made"));
    assert_eq!(world.read(&image, "right").as_deref(), Some("made"));
}

#[test]
fn stages_that_nobody_needs_do_not_run() {
    let Some(world) = World::new() else { return };
    let fake = world.fake(&|_| 0);
    let dockerfile = "FROM scratch AS a\nRUN [\"one\"]\nFROM nothing:there AS unused\nRUN [\"never\"]\nFROM a AS last\nRUN [\"two\"]\n";
    world.build(&fake, &request(dockerfile, &[])).unwrap();
    assert_eq!(fake.take(), ["one", "two"]);
    let first = BuildRequest { target: Some("a".to_owned()), ..request(dockerfile, &[]) };
    let built = world.build(&fake, &first).unwrap();
    assert!(built.cached && fake.take().is_empty());
}

#[test]
fn a_failure_ends_others_and_leaves_what_was_done() {
    let Some(world) = World::new() else { return };
    let (before, slow) = (Flag::default(), Flag::default());
    let act = |doing: &Doing<'_>| match doing.last() {
        "before" => {
            before.set();
            0
        }
        "slow" => {
            slow.set();
            doing.cancelled.wait();
            137
        }
        "fails" => {
            before.wait();
            slow.wait();
            3
        }
        _ => 0,
    };
    let dockerfile = "FROM scratch AS a\nRUN [\"before\"]\nRUN [\"fails\"]\nRUN [\"after\"]\nFROM scratch AS b\nRUN [\"slow\"]\nFROM scratch\nCOPY --from=a / /\nCOPY --from=b / /\n";
    let named = || BuildRequest { names: vec![Reference::parse("app:1").unwrap()], ..request(dockerfile, &[]) };
    let recorder = Recorder::default();
    let fake = world.fake(&act);
    let failure = world.build_told(&fake, &named(), &recorder).unwrap_err();
    assert_eq!(failure.error.to_string(), "process \"fails\" did not complete successfully: exit code: 3");
    assert_eq!(failure.error.lines().map(|lines| lines.first), Some(3));
    assert_eq!(failure.dockerfile.unwrap().text, dockerfile);
    assert_eq!(fake.take(), ["before", "fails", "slow"]);
    let lines = recorder.take();
    assert!(lines.contains(&"cancelled [b 2/2] RUN [\"slow\"]".to_owned()), "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("failed [a 3/4] RUN [\"fails\"]: process")), "{lines:?}");
    assert_eq!(world.store.images().unwrap(), []);

    let fake = world.fake(&|_| 0);
    world.build_told(&fake, &named(), &recorder).unwrap();
    assert_eq!(fake.take(), ["after", "fails", "slow"]);
    assert!(recorder.take().contains(&"cached [a 2/4] RUN [\"before\"]".to_owned()));
    assert_eq!(world.store.images().unwrap().len(), 1);
}

#[test]
fn what_two_builds_do_at_once_is_done_once() {
    let Some(world) = World::new() else { return };
    // Whoever comes first goes on when the other one waits.
    let other_waits = Arc::new(Flag::default());
    let recorders = [Recorder::telling(&other_waits), Recorder::telling(&other_waits)];
    let count = AtomicUsize::new(0);
    let act = |doing: &Doing<'_>| {
        count.fetch_add(1, Ordering::SeqCst);
        other_waits.wait();
        fs::write(doing.upper.join("made"), "once").unwrap();
        0
    };
    let fakes = [world.fake(&act), world.fake(&act)];
    let ids = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for (fake, recorder) in fakes.iter().zip(&recorders) {
            let (world, ids) = (&world, &ids);
            scope.spawn(move || {
                let built = world.build_told(fake, &request("FROM scratch\nRUN [\"long\"]\n", &[]), recorder).unwrap();
                ids.lock().unwrap().push((built.images[0].1.id.clone(), built.cached));
            });
        }
    });
    assert_eq!(count.load(Ordering::SeqCst), 1);
    let ids = ids.into_inner().unwrap();
    assert_eq!(ids[0].0, ids[1].0);
    assert_eq!(ids.iter().filter(|(_, cached)| *cached).count(), 1);
    assert_eq!(fs::read_dir(world.folders.running()).unwrap().count(), 0);
}

#[test]
fn a_failure_ends_waiting_for_other_builds() {
    let Some(world) = World::new() else { return };
    let (holds, over) = (Flag::default(), Flag::default());
    let recorder = Recorder::default();
    let act = |doing: &Doing<'_>| match doing.last() {
        "holds" => {
            holds.set();
            over.wait();
            0
        }
        _ => {
            recorder.await_waits(2);
            3
        }
    };
    let cached = "RUN --mount=type=cache,id=c,target=/c,sharing=locked";
    let failing = format!(
        "FROM scratch AS a\n{cached} [\"holds\"]\nFROM scratch AS b\n{cached} [\"wants\"]\nFROM scratch AS c\nRUN [\"fails\"]\nFROM scratch\nCOPY --from=a / /\nCOPY --from=b / /\nCOPY --from=c / /\n"
    );
    std::thread::scope(|scope| {
        let (first, second) = (world.fake(&act), world.fake(&act));
        let holding = format!("FROM scratch AS a\n{cached} [\"holds\"]\n");
        let world = &world;
        let building = scope.spawn(move || world.build(&first, &request(&holding, &[])).map(drop));
        holds.wait();
        let failure = world.build_told(&second, &request(&failing, &[]), &recorder).unwrap_err();
        assert_eq!(failure.error.to_string(), "process \"fails\" did not complete successfully: exit code: 3");
        assert_eq!(second.take(), ["fails"]);
        let lines = recorder.take();
        for line in [
            format!("waiting [a 2/2] {cached} [\"holds\"] for another build that does the same"),
            format!("waiting [b 2/2] {cached} [\"wants\"] for cache c, which another step has"),
            format!("cancelled [a 2/2] {cached} [\"holds\"]"),
            format!("cancelled [b 2/2] {cached} [\"wants\"]"),
        ] {
            assert!(lines.contains(&line), "{line}: {lines:?}");
        }
        over.set();
        building.join().unwrap().unwrap();
    });
}

#[test]
fn what_is_old_beside_the_cache_goes() {
    let Some(world) = World::new() else { return };
    world.build(&world.fake(&|_| 0), &request("FROM scratch\nRUN [\"x\"]\n", &[])).unwrap();
    let count = || fs::read_dir(world.folders.last()).unwrap().count();
    tare_build::cache::forget(&world.folders, std::time::Duration::from_secs(3600)).unwrap();
    assert_eq!(count(), 1);
    tare_build::cache::forget(&world.folders, std::time::Duration::ZERO).unwrap();
    assert_eq!(count(), 0);
}

#[test]
fn a_record_that_cannot_be_trusted_counts_as_absent() {
    let Some(world) = World::new() else { return };
    let fake = world.fake(&|_| 0);
    let build = || world.build(&fake, &request("FROM scratch\nRUN [\"one\"]\nRUN [\"two\"]\n", &[])).unwrap();
    let records = || {
        let entries = fs::read_dir(world.folders.cache()).unwrap();
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    };
    build();
    assert_eq!(fake.take(), ["one", "two"]);
    let texts = || records().iter().map(|path| fs::read_to_string(path).unwrap()).collect::<Vec<_>>();
    let original = texts();
    let damage: [&dyn Fn(&str) -> String; 5] = [
        &|_| String::new(),
        &|text| text[..text.len() / 2].to_owned(),
        &|text| text.replace("\"version\":1", "\"version\":2"),
        &|text| text.replace("sha256:", "sha512:"),
        &|text| text.to_owned() + &" ".repeat(70_000),
    ];
    for damage in damage {
        for path in records() {
            fs::write(&path, damage(&fs::read_to_string(&path).unwrap())).unwrap();
        }
        build();
        assert_eq!(fake.take(), ["one", "two"]);
        build();
        assert_eq!(fake.take(), [""; 0]);
    }
    // One that is another step's: the name is not what it says.
    for (path, text) in records().iter().zip(original.iter().rev()) {
        fs::write(path, text).unwrap();
    }
    build();
    assert_eq!(fake.take(), ["one", "two"]);
}

#[test]
fn what_is_not_to_come_from_the_cache_does_not() {
    let Some(world) = World::new() else { return };
    let fake = world.fake(&|_| 0);
    let dockerfile = "FROM scratch AS a\nRUN [\"one\"]\nFROM scratch AS b\nRUN [\"two\"]\nFROM scratch\nCOPY --from=a / /\nCOPY --from=b / /\nRUN [\"three\"]\n";
    let build = |no_cache| world.build(&fake, &BuildRequest { no_cache, ..request(dockerfile, &[]) }).unwrap();
    build(NoCache::Changed);
    assert_eq!(fake.take(), ["one", "three", "two"]);
    let built = build(NoCache::All);
    assert_eq!(fake.take(), ["one", "three", "two"]);
    assert!(!built.cached && built.steps.iter().all(|step| step.why == "asked for by --no-cache"), "{:?}", built.steps);
    build(NoCache::Stages(["b".to_owned()].into()));
    assert_eq!(fake.take(), ["two"]);
    assert!(build(NoCache::Changed).cached);
}

#[test]
fn what_a_step_writes_and_warnings_are_told() {
    let Some(world) = World::new() else { return };
    let recorder = Recorder::default();
    let act = |doing: &Doing<'_>| {
        assert_eq!((doing.process.cwd, doing.process.user), ("/srv", "5"));
        assert!(doing.process.env.contains(&"SOURCE_DATE_EPOCH=315532800".to_owned()), "{:?}", doing.process.env);
        0
    };
    let dockerfile = "FROM scratch\nWORKDIR /srv\nUSER 5\nENV A=$B\nRUN [\"hello\"]\n";
    let built = world.build_told(&world.fake(&act), &request(dockerfile, &[]), &recorder).unwrap();
    let lines = recorder.take();
    assert!(
        lines.contains(&"output hello".to_owned()) && lines.contains(&"warning UndefinedVar".to_owned()),
        "{lines:?}"
    );
    assert_eq!(built.warnings.len(), 1);
}

#[test]
fn what_was_built_elsewhere_is_not_built_again() {
    let Some(world) = World::new() else { return };
    let act = |doing: &Doing<'_>| {
        fs::write(doing.upper.join("made"), doing.last()).unwrap();
        0
    };
    let dockerfile = "FROM scratch\nRUN [\"one\"]\nRUN [\"two\"]\n";
    let fake = world.fake(&act);
    let built = world.build(&fake, &request(dockerfile, &[])).unwrap();
    fake.take();
    let archive = |step: &CachedStep| {
        let mut bytes = Vec::new();
        let mut tar = world.store.layer_tar(&step.record.diff_id, &step.record.layer).unwrap();
        tar.read_to_end(&mut bytes).unwrap();
        (step.record.key.clone(), step.record.diff_id.clone(), Some(bytes))
    };
    assert!(built.cached_steps.iter().all(|step| step.in_result));
    let mut told: Vec<_> = built.cached_steps.iter().map(archive).collect();

    let from = || BuildRequest { cache_from: vec![CacheFrom::Folder("/cache".into())], ..request(dockerfile, &[]) };
    let Some(other) = World::new() else { return };
    let mut fake = other.fake(&act);
    fake.elsewhere = Some(told.clone());
    let again = other.build(&fake, &from()).unwrap();
    assert!(again.cached && fake.take().is_empty());
    assert_eq!(again.images, built.images);

    // Its layer is gone: the step is built, and the next one is not, as it comes to the same.
    told[0].2 = None;
    let Some(third) = World::new() else { return };
    let mut fake = third.fake(&act);
    fake.elsewhere = Some(told);
    let recorder = Recorder::default();
    let again = third.build_told(&fake, &from(), &recorder).unwrap();
    assert_eq!(fake.take(), ["one"]);
    assert_eq!(again.images, built.images);
    let lines = recorder.take();
    assert!(lines.iter().any(|line| line.contains("the cached result cannot be used: 404")), "{lines:?}");

    // Nobody answers.
    fake.elsewhere = None;
    let recorder = Recorder::default();
    third.build_told(&fake, &from(), &recorder).unwrap();
    let lines = recorder.take();
    assert!(lines.contains(&"failed importing cache from /cache: /cache: 404".to_owned()), "{lines:?}");
}

#[test]
fn an_inline_cache_is_part_of_the_configuration() {
    let Some(world) = World::new() else { return };
    let dockerfile = "FROM scratch\nRUN [\"one\"]\nENV A=1\nRUN [\"two\"]\n";
    let act = |doing: &Doing<'_>| {
        fs::write(doing.upper.join("made"), doing.last()).unwrap();
        0
    };
    let fake = world.fake(&act);
    let inline = || BuildRequest { inline_cache: true, ..request(dockerfile, &[]) };
    let built = world.build(&fake, &inline()).unwrap();
    let config = world.record(&built).config;
    assert_eq!(config.build_steps.iter().map(|step| step.layer).collect::<Vec<_>>(), [0, 1]);
    let keys: Vec<_> = built.cached_steps.iter().map(|step| step.record.key.digest()).collect();
    assert_eq!(config.build_steps.iter().map(|step| &step.key).collect::<Vec<_>>(), keys);
    assert_eq!(world.build(&fake, &inline()).unwrap().images, built.images);
    let plain = world.build(&fake, &request(dockerfile, &[])).unwrap();
    assert!(world.record(&plain).config.build_steps.is_empty());
}
