//! Lists: tables with Docker's columns, and rows by a template.

use crate::failure::Failure;
use crate::template::{Template, failed};
use gotmpl::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A field of a row: its name in templates and its column's heading.
pub(crate) type Column = (&'static str, &'static str);

/// One object of a list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    /// Its fields by name.
    pub(crate) fields: BTreeMap<&'static str, String>,
    /// Its labels, for `{{.Label "name"}}`.
    pub(crate) labels: BTreeMap<String, String>,
}

/// Shows rows as `--format` asks.
///
/// `columns` are all fields, `shown` the names of those that the plain table has.
pub(crate) fn render(
    format: Option<&str>,
    columns: &[Column],
    shown: &[&str],
    rows: &[Row],
) -> Result<String, Failure> {
    let format = format.map(str::trim).filter(|format| !format.is_empty()).unwrap_or("table");
    if format == "table" {
        let heading = |field: &&str| columns.iter().find(|(name, _)| name == field).map_or("", |(_, heading)| heading);
        let mut lines = vec![shown.iter().map(|field| heading(field).to_owned()).collect()];
        let cell = |row: &Row, field: &str| row.fields.get(field).cloned().unwrap_or_default();
        lines.extend(rows.iter().map(|row| shown.iter().map(|field| cell(row, field)).collect()));
        return Ok(align(&lines));
    }
    if format == "json" {
        return rows.iter().map(|row| Ok(format!("{}\n", json_line(row)))).collect();
    }
    let (table, text) = match format.strip_prefix("table") {
        Some(text) if text.starts_with([' ', '\\', '\t']) => (true, text.trim_start_matches(' ')),
        _ => (false, format),
    };
    let template = Template::parse(text).map_err(|error| failed("parse", &error))?;
    let fill = |data: &Value| template.render(data).map_err(|error| failed("execute", &error));
    let mut lines = Vec::new();
    if table {
        lines.push(fill(&headings(columns))?);
    }
    for row in rows {
        lines.push(fill(&data(row))?);
    }
    if !table {
        return Ok(lines.iter().map(|line| format!("{line}\n")).collect());
    }
    let cells: Vec<Vec<String>> = lines
        .iter()
        .flat_map(|text| text.split('\n'))
        .map(|line| line.split('\t').map(str::to_owned).collect())
        .collect();
    Ok(align(&cells))
}

fn json_line(row: &Row) -> String {
    serde_json::Value::from_iter(row.fields.iter().map(|(name, field)| ((*name).to_owned(), field.as_str())))
        .to_string()
}

fn strings<'a>(entries: impl Iterator<Item = (&'a str, &'a str)>) -> BTreeMap<Arc<str>, Value> {
    entries.map(|(name, text)| (Arc::from(name), Value::String(text.into()))).collect()
}

fn data(row: &Row) -> Value {
    let mut fields = strings(row.fields.iter().map(|(name, text)| (*name, text.as_str())));
    let labels = strings(row.labels.iter().map(|(name, text)| (name.as_str(), text.as_str())));
    fields.insert("Label".into(), Value::Map(Arc::new(labels)));
    Value::Map(Arc::new(fields))
}

/// The row of headings. The column of a single label has none here.
fn headings(columns: &[Column]) -> Value {
    let mut fields = strings(columns.iter().copied());
    fields.insert("Label".into(), Value::Map(Arc::new(BTreeMap::new())));
    Value::Map(Arc::new(fields))
}

/// At most so many characters, the last of them an ellipsis when something is missing.
pub(crate) fn ellipsis(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width - 1).chain(['…']).collect()
}

/// Cells are at least so wide.
const MIN_WIDTH: usize = 10;
/// Spaces behind the widest cell of a column.
const PADDING: usize = 3;

/// Aligns the columns as Go's tabwriter does for Docker: the last cell of a line is not padded.
fn align(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let mut widths = vec![0; columns];
    for line in lines {
        for (column, cell) in line.iter().enumerate().take(line.len().saturating_sub(1)) {
            widths[column] = widths[column].max((cell.chars().count() + PADDING).max(MIN_WIDTH));
        }
    }
    let mut text = String::new();
    for line in lines {
        for (column, cell) in line.iter().enumerate() {
            let width = if column + 1 == line.len() { 0 } else { widths[column] };
            text.push_str(&format!("{cell:width$}"));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] = &[("ID", "CONTAINER ID"), ("Image", "IMAGE"), ("Names", "NAMES")];

    fn rows() -> Vec<Row> {
        let row = |id: &str, image: &str, name: &str| Row {
            fields: [("ID", id.to_owned()), ("Image", image.to_owned()), ("Names", name.to_owned())].into(),
            labels: [("who".to_owned(), name.to_uppercase())].into(),
        };
        vec![row("0123456789ab", "hello", "web"), row("ba9876543210", "127.0.0.1:5000/web", "a")]
    }

    fn render(format: Option<&str>) -> String {
        super::render(format, COLUMNS, &["ID", "Image", "Names"], &rows()).unwrap()
    }

    #[test]
    fn the_plain_table_is_dockers() {
        assert_eq!(
            render(None),
            "CONTAINER ID   IMAGE                NAMES\n\
             0123456789ab   hello                web\n\
             ba9876543210   127.0.0.1:5000/web   a\n"
        );
        assert_eq!(super::render(None, COLUMNS, &["ID", "Names"], &[]).unwrap(), "CONTAINER ID   NAMES\n");
    }

    #[test]
    fn templates_make_rows_and_tables() {
        assert_eq!(render(Some("{{.Names}}: {{.Label \"who\"}}")), "web: WEB\na: A\n");
        assert_eq!(
            render(Some("table {{.Names}}\\t{{upper .Image}}")),
            "NAMES     IMAGE\nweb       HELLO\na         127.0.0.1:5000/WEB\n"
        );
        assert_eq!(
            render(Some("json")).lines().next().unwrap(),
            r#"{"ID":"0123456789ab","Image":"hello","Names":"web"}"#
        );
        assert!(super::render(Some("{{.Foo}}"), COLUMNS, &[], &rows()).is_err());
    }
}
