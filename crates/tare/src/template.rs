//! Go templates of `--format`, with the functions that Docker adds to them.

use crate::failure::Failure;
use gotmpl::parse::{CommandNode, Expr, ListNode, Node, PipeNode};
use gotmpl::{MissingKey, TemplateError, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A parsed template.
pub(crate) struct Template(gotmpl::Template);

/// Go's name for the template, as errors show it.
const NAME: &str = "format";

/// The same template with methods rewritten.
const REWRITTEN: &str = "rewritten";

impl Template {
    /// Parses the text of `--format`, in which `\t` and `\n` may be spelt out.
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        let text = text.replace("\\t", "\t").replace("\\n", "\n");
        let template = functions(gotmpl::Template::new(NAME)).missing_key(MissingKey::Error).parse(&text)?;
        // Docker's rows have one method with an argument, `.Label "name"`; gotmpl's values have no methods.
        let tree = template.lookup(NAME).map(|tree| {
            let mut tree = tree.clone();
            rewrite_list(&mut tree);
            tree
        });
        Ok(Self(match tree {
            Some(tree) => template.add_parse_tree(REWRITTEN, tree),
            // Nothing but spaces.
            None => template,
        }))
    }

    /// Fills the template.
    pub(crate) fn render(&self, data: &Value) -> Result<String, TemplateError> {
        match self.0.lookup(REWRITTEN) {
            Some(_) => self.0.execute_template_to_string(REWRITTEN, data),
            None => self.0.execute_to_string(data),
        }
    }
}

/// The failure for a template that cannot be read or filled.
pub(crate) fn failed(action: &str, error: &TemplateError) -> Failure {
    Failure::new(format!("failed to {action} template: {error}"))
}

/// A JSON value as a template's value.
pub(crate) fn value(json: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match json {
        Json::Null => Value::Nil,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::Int(number),
            (None, Some(number)) => Value::Uint(number),
            (None, None) => Value::Float(number.as_f64().unwrap_or_default()),
        },
        Json::String(text) => Value::String(text.as_str().into()),
        Json::Array(items) => Value::List(items.iter().map(value).collect()),
        Json::Object(fields) => {
            let fields = fields.iter().map(|(name, field)| (Arc::from(name.as_str()), value(field)));
            Value::Map(Arc::new(fields.collect::<BTreeMap<Arc<str>, Value>>()))
        }
    }
}

fn json(value: &Value) -> serde_json::Value {
    use serde_json::Value as Json;
    match value {
        Value::Nil | Value::Function(_) => Json::Null,
        Value::Bool(value) => (*value).into(),
        Value::Int(number) => (*number).into(),
        Value::Uint(number) => (*number).into(),
        Value::Float(number) => (*number).into(),
        Value::String(text) => Json::String(text.to_string()),
        Value::List(items) => items.iter().map(json).collect(),
        Value::Map(fields) => fields.iter().map(|(name, field)| (name.to_string(), json(field))).collect(),
    }
}

fn functions(template: gotmpl::Template) -> gotmpl::Template {
    type Args<'a> = &'a [Value];
    fn text(args: Args<'_>, at: usize) -> Result<String, TemplateError> {
        let missing = || TemplateError::Exec(format!("wrong number of args: want at least {}", at + 1));
        Ok(args.get(at).ok_or_else(missing)?.to_string())
    }
    fn number(args: Args<'_>, at: usize) -> Result<usize, TemplateError> {
        let wrong = || TemplateError::Exec("wrong type for value; expected int".to_owned());
        args.get(at).and_then(Value::as_int).and_then(|n| usize::try_from(n).ok()).ok_or_else(wrong)
    }
    let string = |text: String| Ok(Value::String(text.into()));
    template
        .func("json", move |args| {
            let value = args.first().map_or(serde_json::Value::Null, json);
            string(value.to_string())
        })
        .func("join", move |args| {
            let items = match args.first() {
                Some(Value::List(items)) => items.iter().map(ToString::to_string).collect::<Vec<_>>(),
                _ => Vec::new(),
            };
            string(items.join(&text(args, 1)?))
        })
        .func("split", |args| {
            let (whole, by) = (text(args, 0)?, text(args, 1)?);
            Ok(Value::List(whole.split(by.as_str()).map(Value::from).collect()))
        })
        .func("lower", move |args| string(text(args, 0)?.to_lowercase()))
        .func("upper", move |args| string(text(args, 0)?.to_uppercase()))
        .func("title", move |args| string(title(&text(args, 0)?)))
        .func("pad", move |args| {
            let (before, after) = (number(args, 1)?, number(args, 2)?);
            string(format!("{:before$}{}{:after$}", "", text(args, 0)?, ""))
        })
        .func("truncate", move |args| string(text(args, 0)?.chars().take(number(args, 1)?).collect()))
        .func("index", |args| {
            let (first, keys) = args.split_first().ok_or_else(|| TemplateError::Exec("index of nothing".to_owned()))?;
            keys.iter().try_fold(first.clone(), |value, key| match (&value, key) {
                // What a Go map of strings holds for a name that it lacks is the empty string.
                (Value::Map(map), Value::String(name))
                    if !map.contains_key(name) && map.values().all(|value| matches!(value, Value::String(_))) =>
                {
                    Ok(Value::String("".into()))
                }
                _ => value.index(key),
            })
        })
}

fn title(text: &str) -> String {
    let mut start = true;
    text.chars()
        .flat_map(|letter| {
            let upper = std::mem::replace(&mut start, !letter.is_alphanumeric());
            if upper { letter.to_uppercase().collect::<Vec<_>>() } else { vec![letter] }
        })
        .collect()
}

fn rewrite_list(list: &mut ListNode) {
    for node in &mut list.nodes {
        match node {
            Node::List(list) => rewrite_list(list),
            Node::Action(action) => rewrite_pipe(&mut action.pipe),
            Node::If(branch) | Node::Range(branch) | Node::With(branch) => {
                rewrite_pipe(&mut branch.pipe);
                rewrite_list(&mut branch.body);
                branch.else_body.iter_mut().for_each(rewrite_list);
            }
            Node::Template(template) => template.pipe.iter_mut().for_each(rewrite_pipe),
            Node::Define(define) => rewrite_list(&mut define.body),
            Node::Text(_) | Node::Break(_) | Node::Continue(_) => {}
        }
    }
}

fn rewrite_pipe(pipe: &mut PipeNode) {
    pipe.commands.iter_mut().for_each(rewrite_command);
}

fn rewrite_command(command: &mut CommandNode) {
    for arg in &mut command.args {
        if let Expr::Pipe(_, pipe) = arg {
            rewrite_pipe(pipe);
        }
    }
    // `.Label "x"` becomes `index .Label "x"`.
    if let [Expr::Field(pos, names), _] = command.args.as_slice()
        && names.len() == 1
        && names[0].as_str() == "Label"
    {
        command.args.insert(0, Expr::Identifier(*pos, "index".into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(template: &str) -> Result<String, String> {
        let data = serde_json::json!({
            "Name": "web", "Pid": 7, "Running": true, "Big": u64::MAX,
            "Env": ["A=1", "B=2"],
            "Labels": {"a": "1"},
            "Label": {"a.b": "x"},
            "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "3000"}]},
            "Nothing": null,
        });
        let template = Template::parse(template).map_err(|error| error.to_string())?;
        template.render(&value(&data)).map_err(|error| error.to_string())
    }

    #[test]
    fn dockers_functions() {
        for (template, expected) in [
            ("{{.Name}} {{.Pid}} {{.Running}} {{.Big}}", "web 7 true 18446744073709551615"),
            ("{{json .Env}}", r#"["A=1","B=2"]"#),
            ("{{json .Nothing}} {{json .Pid}}", "null 7"),
            ("{{join .Env \", \"}}", "A=1, B=2"),
            ("{{index (split \"a:b\" \":\") 1}}", "b"),
            ("{{upper .Name}} {{lower \"AB\"}} {{title \"a day\"}}", "WEB ab A Day"),
            ("{{truncate .Name 2}}|{{pad .Name 1 2}}|", "we| web  |"),
            ("{{range .Env}}{{.}};{{end}}", "A=1;B=2;"),
            ("{{range $k, $v := .Labels}}{{$k}}={{$v}}{{end}}", "a=1"),
            ("{{(index (index .Ports \"80/tcp\") 0).HostPort}}", "3000"),
            ("{{index .Labels \"a\"}}[{{index .Labels \"b\"}}]", "1[]"),
            ("{{.Label \"a.b\"}}[{{.Label \"c\"}}]{{if .Label \"a.b\"}}!{{end}}", "x[]!"),
            ("{{.Name}}\\t{{.Pid}}\\n", "web\t7\n"),
            ("{{println .Name}}", "web\n"),
            ("{{if eq .Name \"web\"}}yes{{else}}no{{end}}", "yes"),
            ("{{len .Env}}", "2"),
        ] {
            assert_eq!(render(template).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn wrong_templates_say_what_is_wrong() {
        for (template, expected) in [("{{", "unclosed action"), ("{{.Foo}}", "Foo"), ("{{foo}}", "foo")] {
            let error = render(template).unwrap_err();
            assert!(error.contains(expected), "{template}: {error}");
        }
    }
}
