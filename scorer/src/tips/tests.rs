use std::collections::HashMap;

use super::*;

/// Every name the shipped views give, read off their text: what is selected, times the windows.
fn shipped_features() -> HashSet<String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../features/views");
    let mut names = HashSet::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let view = word_after(&text, "CREATE FEATURE VIEW ");
        let windows = text.split_once("WINDOWS (").unwrap().1.split_once(')').unwrap().0;
        let select = text.split_once("AS SELECT").unwrap().1.split_once("\nFROM ").unwrap().0;
        for feature in
            select.lines().filter_map(|line| Some(line.rsplit_once(" AS ")?.1.trim_end_matches(',')))
        {
            for window in windows.split(',') {
                let (count, unit) = window.trim().split_once(' ').unwrap();
                names.insert(format!("{view}.{feature}_{count}{}", unit[..1].to_lowercase()));
            }
        }
    }
    names
}

fn word_after<'a>(text: &'a str, lead: &str) -> &'a str {
    text.split_once(lead).unwrap().1.split_whitespace().next().unwrap()
}

fn tip_text(id: &str, more: &str) -> String {
    format!(
        "[[tip]]\nid = \"{id}\"\ntitle = \"T\"\nbody = \"B\"\naction = \"A\"\ncategory = \"rest\"\neffort = 5\n{more}\n"
    )
}

fn read(text: &str) -> Result<TipCatalogue, TipError> {
    let mut catalogue = TipCatalogue::default();
    catalogue.add("mine.toml", text).map(|()| catalogue)
}

#[test]
fn shipped_tips_name_shipped_features_only() {
    let known = shipped_features();
    assert!(known.contains("task_activity.completed_24h"), "the scan reads the views");
    let catalogue = TipCatalogue::builtin().unwrap();
    assert!(catalogue.len() >= 84);
    catalogue.check_features(&known).unwrap();
}

#[test]
fn everyone_always_has_enough_to_choose_from() {
    let catalogue = TipCatalogue::builtin().unwrap();
    let mut always: HashMap<&str, usize> = HashMap::new();
    for tip in catalogue.iter().filter(|t| t.when.is_empty()) {
        *always.entry(&tip.category).or_default() += 1;
    }
    for category in catalogue.categories() {
        assert!(always.get(category).is_some_and(|n| *n >= 2), "{category} has tips that always apply");
    }
    let names = catalogue.features();
    let nothing_known = vec![Value::Null; names.len()];
    let conditions = catalogue.resolve(&names).unwrap();
    assert!(conditions.applicable(&nothing_known).count() >= 25);
}

/// A condition nobody can meet would be a tip nobody ever sees.
#[test]
fn every_shipped_tip_can_apply_and_then_tells_its_reason() {
    let catalogue = TipCatalogue::builtin().unwrap();
    let names = catalogue.features();
    let conditions = catalogue.resolve(&names).unwrap();
    for (index, tip) in catalogue.iter().enumerate() {
        let candidates = (-1..=1500).map(|half| Value::Float(f64::from(half) / 2.0));
        let values: Vec<Value> = names
            .iter()
            .map(|name| {
                let mut tests = tip.when.iter().filter(|p| p.feature == *name).map(|p| p.test).peekable();
                if tests.peek().is_none() {
                    return Value::Null;
                }
                let tests: Vec<_> = tests.collect();
                let mut fitting = candidates.clone();
                fitting.find(|v| tests.iter().all(|t| t.passes(v))).unwrap_or_default()
            })
            .collect();
        assert!(conditions.applicable(&values).any(|i| i == index), "{} can apply", tip.id);
        let why = tip.why.render(&names, &values).unwrap_or_else(|| panic!("{} tells why", tip.id));
        assert!(why.ends_with(['.', '?', '!']) && !why.contains('{'), "{}: {why}", tip.id);
    }
}

#[test]
fn conditions_choose_by_value() {
    let text = [
        tip_text("always", "why = \"W\""),
        tip_text("short", "why = \"{a.sleep_1h} min\"\nwhen = [\"a.sleep_1h < 360\"]"),
        tip_text("both", "why = \"W\"\nwhen = [\"a.sleep_1h < 360\", \"a.tasks_1h >= 3\"]"),
        tip_text("unknown", "why = \"W\"\nwhen = [\"a.sleep_1h is null\"]"),
    ]
    .concat();
    let catalogue = read(&text).unwrap();
    assert_eq!(catalogue.features(), ["a.sleep_1h", "a.tasks_1h"]);
    let names = ["a.tasks_1h".to_owned(), "b.extra_1h".to_owned(), "a.sleep_1h".to_owned()];
    let conditions = catalogue.resolve(&names).unwrap();
    let ids = |tasks: i64, sleep: Value| -> Vec<&str> {
        let values = [Value::Int(tasks), Value::Null, sleep];
        conditions.applicable(&values).map(|i| catalogue.tips()[i].id.as_str()).collect()
    };
    assert_eq!(ids(5, Value::Int(300)), ["always", "short", "both"]);
    assert_eq!(ids(0, Value::Int(300)), ["always", "short"]);
    assert_eq!(ids(0, Value::Int(400)), ["always"]);
    assert_eq!(ids(5, Value::Null), ["always", "unknown"]);
    let short = catalogue.get("short").unwrap();
    assert_eq!(short.why.render(&names, &[Value::Null, Value::Null, Value::Int(300)]).unwrap(), "300 min");
}

#[test]
fn files_add_to_the_shipped_tips() {
    let dir = tempfile::tempdir().unwrap();
    let mine = dir.path().join("mine.toml");
    std::fs::write(&mine, tip_text("my-own-tip", "why = \"W\"")).unwrap();
    let catalogue = TipCatalogue::load(std::slice::from_ref(&mine)).unwrap();
    assert_eq!(catalogue.len(), TipCatalogue::builtin().unwrap().len() + 1);
    assert_eq!(catalogue.get("my-own-tip").unwrap().effort, 5);
    let twice = TipCatalogue::load(&[mine.clone(), mine.clone()]).unwrap_err().to_string();
    assert!(
        twice.contains("my-own-tip") && twice.contains("already used in") && twice.contains("mine.toml"),
        "{twice}"
    );
    let missing = dir.path().join("none.toml");
    assert!(TipCatalogue::load(&[missing]).unwrap_err().to_string().contains("none.toml"));
}

#[test]
fn mistakes_name_file_tip_and_field() {
    let long = "x".repeat(61);
    let cases = [
        (tip_text("Bad Id", "why = \"W\""), ["Bad Id", "id", "lower case"]),
        (
            tip_text("a", "why = \"W\"").replace("\"T\"", &format!("\"{long}\"")),
            ["`a`", "title", "at most 60"],
        ),
        (tip_text("a", "why = \"W\"").replace("\"B\"", "\" \""), ["`a`", "body", "empty"]),
        (tip_text("a", "why = \"W\"").replace("\"B\"", "\"two\\nlines\""), ["`a`", "body", "one line"]),
        (tip_text("a", "why = \"W\"").replace("effort = 5", "effort = 0"), ["`a`", "effort", "1 to 240"]),
        (tip_text("a", "why = \"W\"\nwhen = [\"x > 3\"]"), ["`a`", "when", "view.feature_window"]),
        (tip_text("a", "why = \"{v.x_1h}\""), ["`a`", "why", "v.x_1h is not null"]),
        (tip_text("a", "why = \"{v.x_1h\""), ["`a`", "why", "without"]),
        (tip_text("a", "why = \"W\"\nsource = []"), ["source", "unknown field", "line 9"]),
        (tip_text("a", ""), ["why", "missing field", "line 1"]),
    ];
    for (text, parts) in cases {
        let message = read(&text).unwrap_err().to_string();
        for part in parts.into_iter().chain(["mine.toml"]) {
            assert!(message.contains(part), "`{part}` in: {message}");
        }
    }
}

#[test]
fn an_unknown_feature_is_reported_with_those_there_are() {
    let catalogue = read(&tip_text("a", "why = \"W\"\nwhen = [\"v.typo_1h > 3\"]")).unwrap();
    let known = HashSet::from(["v.right_1h".to_owned(), "w.other_1h".to_owned()]);
    let message = catalogue.check_features(&known).unwrap_err().to_string();
    for part in ["mine.toml", "`a`", "when", "v.typo_1h", "the view has v.right_1h"] {
        assert!(message.contains(part), "`{part}` in: {message}");
    }
    assert!(!message.contains("w.other_1h"));
    assert!(catalogue.resolve(&["w.other_1h".to_owned()]).unwrap_err().to_string().contains("no view `v`"));
}
