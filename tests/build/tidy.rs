//! What builds keep, and giving it back.

use super::{Context, built, has, steps};
use crate::host::Host;

/// Bytes that everything below the root directory occupies, as du counts.
fn du(host: &Host) -> u64 {
    let root = host.root().display().to_string();
    host.command("du", &["-s", "-B1", &root]).ok().split_whitespace().next().unwrap().parse().unwrap()
}

/// What `df` says everything takes.
fn df(host: &Host) -> u64 {
    let sizes = host.tare(&["system", "df", "--format", "{{.SizeBytes}}"]).ok();
    sizes.lines().map(|size| size.parse::<u64>().unwrap()).sum()
}

fn context(host: &Host) -> Context {
    Context::new(
        host,
        "context",
        &[
            (
                "Dockerfile",
                "FROM BASE AS build\nRUN head -c 300000 /dev/urandom > /large\nRUN --mount=type=cache,target=/c head -c 200000 /dev/urandom > /c/x\n\
                 FROM BASE\nCOPY --from=build /large /large\nCOPY word /word\n",
            ),
            ("word", "1"),
        ],
    )
}

#[test]
fn df_agrees_with_du_after_builds() {
    let Some(host) = Host::new() else { return };
    let context = context(&host);
    built(&host, &context, "web");
    assert_eq!(df(&host), du(&host));
    context.write("word", "2");
    built(&host, &context, "web");
    assert_eq!(df(&host), du(&host));
    let lines = host.tare(&["system", "df"]).ok();
    let cache = lines.lines().find(|line| line.starts_with("Build Cache")).unwrap();
    assert!(!cache.contains(" 0B "), "{lines}");
    let records = host.tare(&["builder", "du"]).ok();
    assert!(records.starts_with("ID ") && records.contains("\nTotal: "), "{records}");
    let kinds = host.tare(&["builder", "du", "--format", "{{.Type}}: {{.Description}}"]).ok();
    assert!(kinds.contains("exec.cachemount") && kinds.contains("RUN head -c 300000"), "{kinds}");
}

#[test]
fn a_dry_run_says_exactly_what_the_prune_then_does() {
    let Some(host) = Host::new() else { return };
    let context = context(&host);
    built(&host, &context, "web");
    let before = du(&host);
    let total = |text: &str| text.lines().last().unwrap().split(": ").last().unwrap().to_owned();
    let records = host.tare(&["builder", "du"]).ok();
    let plan = host.tare(&["builder", "prune", "-a", "--dry-run"]).ok();
    let reclaimable = records.lines().find_map(|line| line.strip_prefix("Reclaimable:")).unwrap().trim();
    assert_eq!(reclaimable, total(&plan), "{records}\n{plan}");
    // The ids that are shown are those that are taken.
    let id = records.lines().nth(1).unwrap().split(' ').next().unwrap();
    let one = host.tare(&["builder", "prune", "-a", "--dry-run", "--filter", &format!("id={id}")]).ok();
    assert!(id.len() == 25 && one.contains(id), "{records}\n{one}");
    assert_eq!(du(&host), before, "{plan}");
    let refused = host.tare(&["builder", "prune", "-a"]).input("n\n").output();
    assert_eq!(refused.stdout, "WARNING! This will remove all build cache. Are you sure you want to continue? [y/N] ");
    let kept = host.tare(&["builder", "prune", "-a", "-f", "--filter", "until=24h"]).ok();
    assert_eq!(kept, "Total reclaimed space: 0B");
    let pruned = host.tare(&["builder", "prune", "-a"]).input("y\n").output().stdout;
    assert!(pruned.contains("Deleted build cache objects:\n"), "{pruned}");
    assert_eq!(total(&plan), total(&pruned));
    let after = du(&host);
    assert!(after < before - 200_000, "{before} {after}\n{plan}\n{pruned}");
    // The image is whole, and the next build begins anew.
    assert_eq!(super::run(&host, "web", &["cat", "/word"]), "1");
    let (ran, _) = steps(&built(&host, &context, "web"));
    assert!(has(&ran, "RUN head -c 300000 /dev/urandom > /large"), "{ran:?}");
    let all = host.tare(&["system", "prune", "-a", "-f"]).ok();
    assert!(all.contains("Deleted build cache objects:\n"), "{all}");
    assert_eq!(host.tare(&["builder", "du", "--format", "{{.ID}}"]).ok(), "");
}
