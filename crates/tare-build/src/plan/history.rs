//! What `history` shows, as BuildKit writes it.

use tare_spec::image::History;

/// Told by BuildKit's frontend; tools that take images apart look for it.
const COMMENT: &str = "buildkit.dockerfile.v0";

/// The text of an entry.
pub(super) enum EntryText<'a> {
    /// As it is.
    Plain(String),
    /// A process, with the arguments that it saw.
    Run { arguments: &'a [String], args: &'a [String] },
}

impl EntryText<'_> {
    pub(super) fn into_owned(self) -> EntryText<'static> {
        EntryText::Plain(self.text())
    }

    fn text(self) -> String {
        match self {
            Self::Plain(text) => text,
            Self::Run { arguments: [], args } => format!("RUN {}", args.join(" ")),
            Self::Run { arguments, args } => {
                format!("RUN |{} {} {}", arguments.len(), arguments.join(" "), args.join(" "))
            }
        }
    }
}

/// An entry without its time.
pub(super) fn entry(text: EntryText<'_>, makes_layer: bool) -> History {
    let mut created_by = text.text();
    if makes_layer {
        created_by.push_str(" # buildkit");
    }
    History {
        created_by: Some(created_by),
        comment: Some(COMMENT.to_owned()),
        empty_layer: !makes_layer,
        ..History::default()
    }
}
