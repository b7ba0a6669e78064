//! `--verify`: builds twice without the cache, and compares.

use super::{build, report, show_build, tells};
use crate::failure::{Failure, Outcome};
use crate::flags::build::Wish;
use crate::ui::{Ui, note};
use std::io::Write;
use tare_engine::build::{ContextSource, NoCache, Output, OutputRequest};

pub(super) fn run(ui: &mut Ui, mut wish: Wish) -> Outcome {
    if matches!(wish.request.context, ContextSource::Archive(_)) {
        return Err(Failure::new("--verify reads the context twice, and standard input can be read once only"));
    }
    let engine = ui.engine()?;
    // Neither gets a name before it is known which it is.
    let names = std::mem::take(&mut wish.request.names);
    let no_cache = std::mem::replace(&mut wish.request.no_cache, NoCache::All);
    let store = || OutputRequest { outputs: vec![Output::Store], ..OutputRequest::default() };
    let first = show_build(&engine, &wish.request, &store(), wish.mode)?;
    // A step that only writes the time down is found out when the clock shows another second.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    std::thread::sleep(
        std::time::Duration::from_secs(1) - std::time::Duration::from_nanos(u64::from(now.subsec_nanos())),
    );
    let second = show_build(&engine, &wish.request, &store(), wish.mode)?;
    if first.digest != second.digest {
        for ((platform, one), (_, other)) in first.images.iter().zip(&second.images).filter(|(a, b)| a.1 != b.1) {
            let steps = engine.compare_builds(one, other)?;
            let text = report::differences(&steps)?;
            write!(ui.out, "{platform}: {one} and {other} differ:\n\n{text}")?;
        }
        let hint = "what changes with time, chance or the network does not build the same twice; `tare image prune` removes both images";
        return Err(Failure::new("the two builds differ").with_hint(Some(hint.to_owned())));
    }
    if tells(wish.mode) {
        note(&format!("\nVerified: both builds gave {}\n", report::id(&first)));
    }
    // The result is in the cache; what was asked for is made of it.
    (wish.request.names, wish.request.no_cache) =
        (names, if no_cache == NoCache::All { NoCache::Changed } else { no_cache });
    build(ui, wish)
}
