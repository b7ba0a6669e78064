//! `--name=value` between an instruction and its arguments.

use super::nearest::nearest;
use super::problem::Problem;
use super::words::csv_fields;

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `--link`, `--link=false`.
    Boolean,
    /// `--from=x`, once.
    Text,
    /// `--exclude=x`, any number.
    Texts,
}

/// Takes the flags off the beginning of a statement's arguments: quotes and escapes are taken away, so that values may have blanks.
/// `--` ends them.
pub(super) fn split(text: &str, escape: char) -> (Vec<String>, &str) {
    let mut flags = Vec::new();
    let mut rest = text.trim_start();
    while rest.starts_with("--") {
        let (flag, after) = first_word(rest, escape);
        rest = after.trim_start();
        if flag == "--" {
            break;
        }
        flags.push(flag);
    }
    (flags, rest.trim_end())
}

fn first_word(text: &str, escape: char) -> (String, &str) {
    let (mut word, mut quote) = (String::new(), None);
    let mut characters = text.chars();
    loop {
        let rest = characters.as_str();
        let Some(character) = characters.next() else { return (word, "") };
        match quote {
            None if character.is_whitespace() => return (word, rest),
            None if matches!(character, '\'' | '"') => quote = Some(character),
            Some(open) if open == character => quote = None,
            _ if character == escape => word.extend(characters.next()),
            _ => word.push(character),
        }
    }
}

/// The flags of a statement, looked at.
#[derive(Debug)]
pub(super) struct Flags {
    values: Vec<(&'static str, String)>,
}

impl Flags {
    /// # Errors
    /// Flags that are not `known`, stand twice, or have a wrong value.
    pub(super) fn read(flags: &[String], known: &[(&'static str, Kind)]) -> Result<Self, Problem> {
        let mut values: Vec<(&'static str, String)> = Vec::new();
        let mut seen = vec![false; known.len()];
        for text in flags {
            let (flag, value) = match text.split_once('=') {
                Some((flag, value)) => (flag, Some(value)),
                None => (text.as_str(), None),
            };
            let name = flag.strip_prefix("--").unwrap_or(flag);
            let Some(index) = known.iter().position(|(known, _)| *known == name) else {
                let meant = nearest(name, known.iter().map(|(name, _)| *name)).map(str::to_owned);
                return Err(Problem::UnknownFlag { flag: flag.to_owned(), meant });
            };
            let (name, kind) = known[index];
            let flag = || format!("--{name}");
            if std::mem::replace(&mut seen[index], true) && kind != Kind::Texts {
                return Err(Problem::DuplicateFlag { flag: flag() });
            }
            let value = match (kind, value) {
                (Kind::Boolean, None) => "true",
                (Kind::Boolean, Some("")) | (Kind::Text | Kind::Texts, None) => {
                    return Err(Problem::FlagValue { flag: flag() });
                }
                (Kind::Boolean, Some(value)) if value.eq_ignore_ascii_case("true") => "true",
                (Kind::Boolean, Some(value)) if value.eq_ignore_ascii_case("false") => "false",
                (Kind::Boolean, Some(value)) => {
                    return Err(Problem::FlagBoolean { flag: flag(), value: value.to_owned() });
                }
                (Kind::Text | Kind::Texts, Some(value)) => value,
            };
            values.push((name, value.to_owned()));
        }
        Ok(Self { values })
    }

    /// The value as written.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.values.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// The value; none if it is empty, as `--from=` says no more than nothing.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.value(name).filter(|value| !value.is_empty()).map(str::to_owned)
    }

    pub(super) fn texts(&self, name: &str) -> Vec<String> {
        self.values.iter().filter(|(known, _)| *known == name).map(|(_, value)| value.clone()).collect()
    }

    pub(super) fn boolean(&self, name: &str) -> Option<bool> {
        self.value(name).map(|value| value == "true")
    }
}

/// Fields of a mount that are on when they have no value.
const MOUNT_SWITCHES: [&str; 5] = ["readonly", "ro", "readwrite", "rw", "required"];
const MOUNT_KEYS: [&str; 14] = [
    "type",
    "from",
    "source",
    "target",
    "id",
    "sharing",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "env",
];

/// The fields of `--mount`: names are known, and those without a value may be. Values are not looked at: they have variables.
pub(super) fn mount(text: &str) -> Result<Vec<(String, String)>, Problem> {
    let mut fields = Vec::new();
    for field in csv_fields(text, "mounts")? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_ascii_lowercase(), Some(value)),
            None => (field.to_ascii_lowercase(), None),
        };
        let is_switch = MOUNT_SWITCHES.contains(&key.as_str());
        match value {
            _ if !is_switch && !MOUNT_KEYS.contains(&key.as_str()) => {
                if value.is_none() {
                    return Err(Problem::FieldValue { field });
                }
                let meant = nearest(&key, MOUNT_KEYS.into_iter().chain(MOUNT_SWITCHES)).map(str::to_owned);
                return Err(Problem::FieldKey { key, field, meant });
            }
            None if !is_switch => return Err(Problem::FieldValue { field }),
            Some("") if is_switch => return Err(Problem::FieldBoolean { key, value: String::new() }),
            // The stages that a build needs must be known before variables are.
            Some(value) if key == "from" && value.find('$').is_some_and(|index| index + 1 < value.len()) => {
                return Err(Problem::MountFrom);
            }
            _ => fields.push((key, value.unwrap_or_default().to_owned())),
        }
    }
    Ok(fields)
}

/// Whether the fields of `--device` are right: a name, and whether it is required.
pub(super) fn device(text: &str) -> Result<(), Problem> {
    let mut named = false;
    for field in csv_fields(text, "devices")? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_ascii_lowercase(), Some(value)),
            None => (field.to_ascii_lowercase(), None),
        };
        match (key.as_str(), value) {
            ("required", None | Some("1" | "t" | "T" | "TRUE" | "true" | "True")) => {}
            ("required", Some("0" | "f" | "F" | "FALSE" | "false" | "False")) => {}
            ("required", Some(value)) => return Err(Problem::FieldBoolean { value: value.to_owned(), key }),
            // `vendor/class=name` is a name as well.
            _ if !named => named = true,
            (_, None) => return Err(Problem::FieldValue { field }),
            _ => {
                let meant = nearest(&key, ["name", "required"].into_iter()).map(str::to_owned);
                return Err(Problem::FieldKey { key, field, meant });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_end_with_the_first_other_word() {
        for (text, flags, rest) in [
            ("", &[][..], ""),
            ("a --b", &[], "a --b"),
            ("--a --b=c d --e", &["--a", "--b=c"], "d --e"),
            ("  --a\t--b  c ", &["--a", "--b"], "c"),
            ("--a=\"b c\" d", &["--a=b c"], "d"),
            ("--a='b\\'c' d", &["--a=b'c"], "d"),
            ("--a=b\\ c d", &["--a=b c"], "d"),
            ("-- --a", &[], "--a"),
            ("--a -- --b", &["--a"], "--b"),
            ("--a=\"b", &["--a=b"], ""),
            ("--a\\", &["--a"], ""),
            ("-a b", &[], "-a b"),
            ("--é=à b", &["--é=à"], "b"),
        ] {
            let (actual, actual_rest) = split(text, '\\');
            assert_eq!(
                (actual.iter().map(String::as_str).collect::<Vec<_>>(), actual_rest),
                (flags.to_vec(), rest),
                "{text}"
            );
        }
        assert_eq!(split("--a=b` c d", '`').0, ["--a=b c"]);
    }

    #[test]
    fn values_are_of_their_kind() {
        let known = [("link", Kind::Boolean), ("from", Kind::Text), ("exclude", Kind::Texts)];
        let read = |text: &str| Flags::read(&split(text, '\\').0, &known);
        let flags = read("--link --from=a --exclude=b --exclude=").unwrap();
        assert_eq!((flags.boolean("link"), flags.text("from").as_deref()), (Some(true), Some("a")));
        assert_eq!(flags.texts("exclude"), ["b", ""]);
        let flags = read("--link=FALSE --from=").unwrap();
        assert_eq!((flags.boolean("link"), flags.text("from")), (Some(false), None));
        assert_eq!(read("").unwrap().boolean("link"), None);
        for (text, expected) in [
            ("--form=a", "unknown flag: --form (did you mean from?)"),
            ("--From=a", "unknown flag: --From (did you mean from?)"),
            ("--nothing", "unknown flag: --nothing"),
            ("--from", "missing a value on flag: --from"),
            ("--exclude", "missing a value on flag: --exclude"),
            ("--link=", "missing a value on flag: --link"),
            ("--link=1", "expecting boolean value for flag --link, not: 1"),
            ("--link --link", "duplicate flag specified: --link"),
            ("--from=a --from=a", "duplicate flag specified: --from"),
        ] {
            assert_eq!(read(text).unwrap_err().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn fields_of_mounts_and_devices() {
        let fields = mount(r#"TYPE=cache,"target=/a,b",ro,id="#).unwrap();
        let fields: Vec<_> = fields.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(fields, [("type", "cache"), ("target", "/a,b"), ("ro", ""), ("id", "")]);
        for (text, expected) in [
            ("", "failed to parse csv mounts: EOF"),
            ("type=bind,", "invalid field '' must be a key=value pair"),
            ("target", "invalid field 'target' must be a key=value pair"),
            ("targt=/x", "unexpected key 'targt' in 'targt=/x' (did you mean target?)"),
            ("ro=", "invalid value for ro: "),
            ("from=$x", "'from' doesn't support variable expansion, define alias stage instead"),
        ] {
            assert_eq!(mount(text).unwrap_err().to_string(), expected, "{text}");
        }
        assert!(mount("from=a$").is_ok() && mount("source=$x").is_ok());
        assert!(device("vendor.com/class=name,required").is_ok() && device("name=x,required=false").is_ok());
        for (text, expected) in [
            ("a,b", "invalid field 'b' must be a key=value pair"),
            ("a,b=c", "unexpected key 'b' in 'b=c'"),
            ("required=x", "invalid value for required: x"),
        ] {
            assert_eq!(device(text).unwrap_err().to_string(), expected, "{text}");
        }
    }
}
