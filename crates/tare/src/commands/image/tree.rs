//! The list of images as Docker 29 shows it: names, what each takes on the disk, and with `--tree` its platforms.

use crate::flags::bytes;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::IsTerminal;
use tare_engine::image::ImageSummary;
use tare_spec::ImageId;
use tare_spec::reference::Reference;

/// What the list is shown on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Screen {
    /// Columns of the terminal; `None` elsewhere.
    width: Option<usize>,
    /// Whether it may have colours.
    colours: bool,
}

impl Screen {
    /// Standard output.
    pub(crate) fn of_stdout() -> Self {
        let terminal = std::io::stdout().is_terminal();
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { width: terminal.then(crate::terminal::width), colours: terminal && !plain }
    }

    fn paint(self, colour: &str, text: &str) -> String {
        if self.colours && !text.trim().is_empty() { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

const TITLE: &str = "1";
const NAME: &str = "34;1";
const UNTAGGED: &str = "2";
/// Black on light cyan.
const CHIP: &str = "38;5;0;48;5;14";
/// Spaces between columns.
const SPACING: usize = 3;
/// Names get at least this much before columns are left out.
const NARROWEST: usize = 12;

struct Line {
    names: Vec<String>,
    id: String,
    disk: u64,
    content: u64,
    in_use: bool,
    platform: Option<(String, String)>,
}

/// Shows images; `users` says how many containers each has.
pub(crate) fn render(
    images: &[ImageSummary],
    users: &BTreeMap<ImageId, usize>,
    expanded: bool,
    screen: Screen,
) -> String {
    let mut lines: Vec<Line> = images.iter().flat_map(|image| lines(image, users, expanded)).collect();
    // What has no name comes last.
    lines.sort_by(|a, b| (a.names.is_empty(), &a.names).cmp(&(b.names.is_empty(), &b.names)));
    let in_use = lines.iter().any(|line| line.in_use);
    let chip = if in_use && screen.colours { 3 } else { 1 };
    let mut columns =
        [("ID", 12), ("DISK USAGE", 10), ("CONTENT SIZE", 12), ("EXTRA", "EXTRA".len().max(chip))].to_vec();
    let widest = lines.iter().flat_map(Line::first_column).max().unwrap_or(0).max("IMAGE".len());
    let mut width = widest;
    if let Some(mut left) = screen.width.map(|width| width.max(20)) {
        for index in 0..columns.len() {
            match left.checked_sub(columns[index].1 + SPACING).filter(|left| *left >= NARROWEST) {
                Some(rest) => left = rest,
                None => {
                    columns.truncate(index);
                    break;
                }
            }
        }
        width = widest.min(left);
    }
    let mut text = String::new();
    if let Some(columns) = screen.width {
        legend(&mut text, columns, screen);
    }
    text.push_str(&screen.paint(TITLE, &format!("{:width$}", "IMAGE")));
    for (title, wide) in &columns {
        let right = matches!(*title, "DISK USAGE" | "CONTENT SIZE");
        let title = if right { format!("{title:>wide$}") } else { format!("{title:wide$}") };
        let _ = write!(text, "{:SPACING$}{}", "", screen.paint(TITLE, &title));
    }
    text.push('\n');
    for line in &lines {
        names(&mut text, line, width, screen);
        details(&mut text, line, &line.id, columns.len(), (in_use, screen));
        text.push('\n');
        if let Some((platform, manifest)) = &line.platform {
            let _ = write!(text, "{:width$}", format!("└─ {platform}"));
            details(&mut text, line, manifest, columns.len(), (in_use, screen));
            text.push_str("\n\n");
        }
    }
    text
}

fn lines(image: &ImageSummary, users: &BTreeMap<ImageId, usize>, expanded: bool) -> Vec<Line> {
    let line = |names: Vec<String>| Line {
        names,
        id: image.id.0.short().to_owned(),
        disk: image.size.saturating_add(image.content),
        content: image.content,
        in_use: users.get(&image.id).is_some_and(|&count| count > 0),
        platform: expanded.then(|| (image.platform.to_string(), image.manifest.short().to_owned())),
    };
    let names = image.tags.iter().map(Reference::familiar);
    if expanded || image.tags.is_empty() {
        vec![line(names.collect())]
    } else {
        names.map(|name| line(vec![name])).collect()
    }
}

const NO_NAME: &str = "<untagged>";

impl Line {
    /// Widths of what it has in the first column.
    fn first_column(&self) -> impl Iterator<Item = usize> {
        let unnamed = self.names.is_empty().then_some(NO_NAME.len());
        let platform = self.platform.as_ref().map(|(platform, _)| platform.chars().count() + 3);
        self.names.iter().map(String::len).chain(unnamed).chain(platform)
    }
}

/// Names one below the other; the details follow the last one, or begin a line of their own where it is too long.
fn names(text: &mut String, line: &Line, width: usize, screen: Screen) {
    let Some((last, others)) = line.names.split_last() else {
        text.push_str(&screen.paint(UNTAGGED, &format!("{NO_NAME:width$}")));
        return;
    };
    for name in others {
        let _ = writeln!(text, "{}", screen.paint(NAME, name));
    }
    let _ = write!(text, "{}{:rest$}", screen.paint(NAME, last), "", rest = width.saturating_sub(last.len()));
    if last.len() > width {
        let _ = write!(text, "\n{:width$}", "");
    }
}

fn details(text: &mut String, line: &Line, id: &str, columns: usize, (chips, screen): (bool, Screen)) {
    let chip = match (chips, line.in_use) {
        (true, true) if screen.colours => screen.paint(CHIP, " U ") + "  ",
        (true, true) => "U    ".to_owned(),
        _ => " ".repeat(5),
    };
    let cells = [
        format!("{id:12}"),
        format!("{:>10}", bytes::show(line.disk)),
        format!("{:>12}", bytes::show(line.content)),
        chip,
    ];
    for cell in cells.iter().take(columns) {
        let _ = write!(text, "{:SPACING$}{cell}", "");
    }
}

/// What the letters in the last column mean, at the right.
fn legend(text: &mut String, columns: usize, screen: Screen) {
    let (plain, shown) = if screen.colours {
        let head = format!("{} {}", screen.paint("1;30;106", "i"), screen.paint("96", "Info → "));
        ("i Info →   U  In Use", format!("{head} {} In Use", screen.paint(CHIP, " U ")))
    } else {
        (" Info ->  U In Use", " Info ->  U In Use".to_owned())
    };
    let _ = writeln!(text, "{:left$}{shown}", "", left = columns.saturating_sub(plain.chars().count()));
}

#[cfg(test)]
mod tests {
    use super::super::ls::tests::image;
    use super::*;

    #[test]
    fn a_line_a_name_and_the_unnamed_last() {
        let images = [image(1, &["web:1", "app"]), image(2, &[])];
        let users = BTreeMap::from([(images[0].id.clone(), 2)]);
        assert_eq!(
            render(&images, &users, false, Screen::default()),
            "IMAGE        ID             DISK USAGE   CONTENT SIZE   EXTRA\n\
             app:latest   010101010101       16.3MB            4MB   U    \n\
             web:1        010101010101       16.3MB            4MB   U    \n\
             <untagged>   020202020202       16.3MB            4MB        \n"
        );
    }

    #[test]
    fn a_tree_has_the_platforms() {
        let images = [image(1, &["web:1", "app"])];
        assert_eq!(
            render(&images, &BTreeMap::new(), true, Screen::default()),
            "IMAGE            ID             DISK USAGE   CONTENT SIZE   EXTRA\n\
             web:1\n\
             app:latest       010101010101       16.3MB            4MB        \n\
             └─ linux/amd64   656565656565       16.3MB            4MB        \n\n"
        );
    }

    #[test]
    fn a_narrow_terminal_loses_columns_not_names() {
        let name = "registry.example/a-team/a-rather-long-name:1.2.3";
        let images = [image(1, &[name])];
        let screen = Screen { width: Some(40), colours: false };
        assert_eq!(
            render(&images, &BTreeMap::new(), false, screen),
            format!(
                "{:22} Info ->  U In Use\nIMAGE          ID             DISK USAGE\n{name}\n{:12}   010101010101       16.3MB\n",
                "", ""
            )
        );
        let wide = render(&images, &BTreeMap::new(), false, Screen { width: Some(120), colours: true });
        assert!(wide.contains(&format!("\x1b[34;1m{name}\x1b[0m   010101010101")), "{wide}");
    }
}
