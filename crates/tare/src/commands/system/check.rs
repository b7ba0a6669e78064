//! `system check`

use crate::cli::Verb;
use crate::failure::{Exit, Failure, Outcome};
use crate::flags::Flag;
use crate::flags::parse::{Arity, Matches};
use crate::table::ellipsis;
use crate::terminal;
use crate::ui::{Ui, note, person_reads_errors};
use std::io::Write;
use tare_engine::image::{Damage, Damaged};

pub(crate) static VERB: Verb = Verb {
    name: "check",
    names: &["system check"],
    usage: "[OPTIONS]",
    about: "Compare all images with their digests",
    flags: &[&[
        Flag::switch("quiet", "Only show what is damaged").short('q'),
        Flag::switch("repair", "Fetch again, or make again, what is damaged"),
    ]],
    arity: Arity::None,
    stops_at_first_argument: false,
    run,
};

fn run(m: &Matches, ui: &mut Ui) -> Outcome {
    let repair = m.switch("repair")?;
    let quiet = m.switch("quiet")?;
    let engine = ui.engine()?;
    let shown = !quiet && person_reads_errors();
    let progress = |what: &str| {
        if shown {
            let width = terminal::width().saturating_sub("reading ".len() + 1);
            note(&format!("\r\x1b[2Kreading {}", ellipsis(what, width.max(12))));
        }
    };
    let checked = engine.check(&progress);
    if shown {
        note("\r\x1b[2K");
    }
    let checked = checked?;
    if !quiet {
        let (images, layers, blobs) = (checked.images, checked.layers, checked.blobs);
        writeln!(ui.out, "{}, {}, {} read", count(images, "image"), count(layers, "layer"), count(blobs, "blob"))?;
    }
    if checked.damages.is_empty() {
        if !quiet {
            writeln!(ui.out, "Everything is as it should be.")?;
        }
        return Ok(Exit::SUCCESS);
    }
    if !repair {
        for damage in &checked.damages {
            writeln!(ui.out, "damaged: {}", told(damage))?;
        }
        ui.out.flush()?;
        let damages = count(checked.damages.len(), "damage");
        let hint = "`tare system check --repair` fetches again what came from a registry".to_owned();
        return Err(Failure::new(format!("{damages} found")).with_hint(Some(hint)));
    }
    let mut left = 0;
    for repaired in engine.repair(checked.damages, &|damage| progress(&told(damage)))? {
        if shown {
            note("\r\x1b[2K");
        }
        match repaired.outcome {
            Ok(done) => writeln!(ui.out, "repaired: {}: {done}", told(&repaired.damage))?,
            Err(why) => {
                left += 1;
                writeln!(ui.out, "damaged: {}: cannot be repaired: {why}", told(&repaired.damage))?;
            }
        }
    }
    ui.out.flush()?;
    if left == 0 { Ok(Exit::SUCCESS) } else { Err(Failure::new(format!("{} left", count(left, "damage")))) }
}

fn told(damage: &Damage) -> String {
    let object = match &damage.object {
        Damaged::Blob(digest) => format!("blob {digest}"),
        Damaged::Layer(layer) => format!("layer {layer}"),
        Damaged::Image(id) => format!("image {id}"),
        Damaged::Reference(name) => format!("name {}", name.familiar()),
        Damaged::Record(path) => format!("record {}", path.display()),
    };
    format!("{object}: {}", damage.reason)
}

fn count(number: usize, of: &str) -> String {
    if number == 1 { format!("1 {of}") } else { format!("{number} {of}s") }
}
