//! Which declarations are taken, and what is said of the others.

use std::{fs, path::Path};

use super::*;

/// What is said of these files.
fn problems(files: &[(&str, &str)]) -> Vec<String> {
    match Catalogue::parse(files) {
        Ok(catalogue) => panic!("taken: {:?}", catalogue.types().map(|t| &t.name).collect::<Vec<_>>()),
        Err(error) => error.problems.iter().map(Problem::to_string).collect(),
    }
}

/// What is said of one file with this body from line 3 on.
fn problem(body: &str) -> String {
    let file = format!("syntax = \"proto3\";\nimport \"kairos/signal.proto\";\n{body}");
    let found = problems(&[("tea.proto", &file)]);
    assert_eq!(found.len(), 1, "{found:#?}");
    found[0].clone()
}

const MADE: &str = r#"option (kairos.signal_type) = "tea.made";"#;

#[test]
fn the_built_in_types_are_all_there() {
    let catalogue = Catalogue::load(&[]).unwrap();
    for name in [
        "task.created",
        "task.completed",
        "task.snoozed",
        "habit.checked",
        "calendar.event",
        "mood.reported",
        "sleep.session",
        "steps.counted",
        "heart.resting",
        "exercise.session",
        "code.pushed",
        "mail.received",
        "listen.played",
        "context.changed",
        "impression",
        "reaction",
    ] {
        let declared = catalogue.get(name).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(declared.name, name);
        assert!(!declared.doc.is_empty(), "{name} has no comment");
        assert!(declared.declared_at.starts_with("built-in/"), "{}", declared.declared_at);
    }
    let task = catalogue.get("task.completed").unwrap();
    assert_eq!((task.table.as_str(), task.doc.as_str()), ("task_completed", "A task was done."));
    let columns: Vec<&str> = task.schema.fields().iter().map(|f| f.name().as_str()).collect();
    assert_eq!(columns[..7], ENVELOPE);
    assert_eq!(columns[7..10], ["task", "project", "minutes"]);
    for (index, field) in task.schema.fields().iter().enumerate() {
        assert_eq!(field.is_nullable(), index >= 7, "{}", field.name());
    }
}

#[test]
fn every_mistake_is_named_with_its_place() {
    for (body, place, what) in [
        ("message Tea {\n  int64 cups = ;\n}", "tea.proto:4", "expected an integer"),
        ("message Tea {\n  Leaf leaf = 1;\n}", "tea.proto:4", "'Leaf'"),
        ("message Tea {\n  int64 a = 1;\n  int64 b = 1;\n}", "tea.proto:", "1"),
        ("import \"cup.proto\";\nmessage Tea {}", "tea.proto", "import 'cup.proto' not found"),
        ("message Tea { int64 a = 1; }", "", "no file here declares a type"),
        (
            "// Hot.\nmessage Tea { option (kairos.table) = \"tea\"; int64 a = 1; }",
            "tea.proto:4",
            "without a type",
        ),
        (
            "message Tea { option (kairos.signal_type) = \"Tea\"; int64 a = 1; }",
            "tea.proto:3",
            "no type name",
        ),
        (
            "message Tea { option (kairos.signal_type) = \"tea.\"; int64 a = 1; }",
            "tea.proto:3",
            "no type name",
        ),
        ("message Tea { option (kairos.signal_type) = \"\"; int64 a = 1; }", "tea.proto:3", "no type name"),
        (
            &format!("message Tea {{ {MADE} option (kairos.alias) = \"te a\"; int64 a = 1; }}"),
            "tea.proto:3",
            "`te a`",
        ),
        (
            &format!("message Tea {{ {MADE} option (kairos.table) = \"T\"; int64 a = 1; }}"),
            "tea.proto:3",
            "no table",
        ),
        (
            &format!("message Tea {{ {MADE} option (kairos.table) = \"signals\"; int64 a = 1; }}"),
            "tea.proto:3",
            "the table `signals` is the system's own",
        ),
        (
            &format!("message Tea {{ {MADE} option (kairos.table) = \"features_a\"; int64 a = 1; }}"),
            "tea.proto:3",
            "the system's own",
        ),
        (
            &format!("message Tea {{ {MADE} option (kairos.table) = \"task_completed\"; int64 a = 1; }}"),
            "tea.proto:3",
            "taken by `task.completed` at built-in/tasks.proto:",
        ),
        (
            &format!("message Tea {{ {MADE} option (kairos.alias) = \"mood.checkin\"; int64 a = 1; }}"),
            "tea.proto:3",
            "the type name `mood.checkin` is taken by `mood.reported`",
        ),
        (
            &format!("message Tea {{ {MADE} int64 a = 1; }}\nmessage More {{ {MADE} int64 a = 1; }}"),
            "tea.proto:4",
            "the type name `tea.made` is taken by `tea.made` at tea.proto:3",
        ),
        (&format!("message Tea {{\n {MADE}\n\n string subject = 1;\n}}"), "tea.proto:6", "rename it"),
        (
            &format!("message Tea {{\n {MADE}\n string Kind = 1;\n}}"),
            "tea.proto:5",
            "`Kind` is no column name",
        ),
        (&format!("message Tea {{ {MADE} }}"), "tea.proto:3", "has no fields"),
        (&format!("message Tea {{\n {MADE}\n Tea tea = 1;\n}}"), "tea.proto:5", "contain itself"),
        (
            &format!("message Leaf {{\n repeated Tea tea = 1;\n}} message Tea {{ {MADE} Leaf leaf = 1; }}"),
            "tea.proto:4",
            "makes `Tea` contain itself",
        ),
        (
            &format!("message Cup {{}}\nmessage Tea {{ {MADE} Cup cup = 1; }}"),
            "tea.proto:3",
            "`Cup` has no fields",
        ),
        (
            &format!(
                "import \"google/protobuf/struct.proto\";\nmessage Tea {{ {MADE} google.protobuf.Struct a = 1; }}"
            ),
            "tea.proto:4",
            "google.protobuf.Struct",
        ),
    ] {
        let found = problem(body);
        assert!(found.starts_with(place) && found.contains(what), "{body}\n{found}");
    }
}

#[test]
fn proto2_is_refused() {
    let file = "syntax = \"proto2\"; import \"kairos/signal.proto\";\nmessage Tea { option (kairos.signal_type) = \
                \"tea.made\"; optional group Cup = 1 { optional int32 size = 2; } }";
    let found = problems(&[("tea.proto", file)]);
    assert!(found[0].starts_with("tea.proto:2: `Tea` is not proto3"), "{found:?}");
}

#[test]
fn all_mistakes_are_named_at_once() {
    let found = problems(&[
        ("a.proto", "syntax = \"proto3\"; message {}"),
        ("b.proto", "syntax = \"proto3\"; import \"kairos/signal.proto\"; import \"a.proto\";"),
        (
            "c.proto",
            "syntax = \"proto3\"; import \"kairos/signal.proto\"; message C { option (kairos.signal_type) = \"C\"; \
             string id = 1; string time = 2; }",
        ),
    ]);
    assert_eq!(found.len(), 4, "{found:#?}");
    assert!(found[0].starts_with("a.proto:1") && found[3].starts_with("c.proto:1"), "{found:#?}");
}

#[test]
fn a_type_too_wide_or_too_deep_is_refused() {
    let fields = |kind: &str, n: usize| (1..=n).map(|i| format!("{kind} f{i} = {i};")).collect::<String>();
    assert!(problem(&format!("message Tea {{ {MADE} {} }}", fields("int64", 257))).contains("257 fields"));
    let wide =
        format!("message A {{ {} }} message Tea {{ {MADE} {} }}", fields("int64", 100), fields("A", 20));
    assert!(problem(&wide).contains("more than 1024 columns"), "{}", problem(&wide));
    let deep: String = (0..20).map(|i| format!("message M{i} {{ M{} next = 1; }}", i + 1)).collect();
    let deep = format!("{deep} message M20 {{ int64 a = 1; }} message Tea {{ {MADE} M0 first = 1; }}");
    assert!(problem(&deep).contains("flatten it"));
}

const CUP: &str = "syntax = \"proto3\"; package cups; message Cup { int64 size = 1; }";

fn tea_file(kind: &str, imports: &str, fields: &str) -> String {
    format!(
        "syntax = \"proto3\"; import \"kairos/signal.proto\"; {imports} message Tea {{ option (kairos.signal_type) \
         = \"{kind}\"; {fields} }}"
    )
}

fn write(dir: &Path, name: &str, text: impl AsRef<[u8]>) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn directories_are_read_with_all_below_them() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let fields = "cups.Cup cup = 1; kairos.signals.TaskCompleted task = 2;";
    let imports = "import \"parts/cup.proto\"; import \"tasks.proto\";";
    write(one.path(), "tea.proto", tea_file("tea.made", imports, fields));
    write(one.path(), "parts/cup.proto", CUP);
    write(one.path(), "kairos/signal.proto", "an editor's copy, never read");
    write(one.path(), "README.md", "not a declaration");
    write(two.path(), "deep/er/tea.proto", tea_file("tea.drunk", "", "int64 cups = 1;"));
    let same = one.path().join("parts/..");
    let dirs = [one.path().to_owned(), two.path().to_owned(), same];
    let catalogue = Catalogue::load(&dirs).unwrap();
    assert_eq!(catalogue.types().count(), Catalogue::load(&[]).unwrap().types().count() + 2);
    assert_eq!(catalogue.get("tea.drunk").unwrap().table, "tea_drunk");
    let declared_at = &catalogue.get("tea.made").unwrap().declared_at;
    assert_eq!(*declared_at, format!("{}:1", one.path().join("tea.proto").display()));
}

#[test]
fn a_directory_that_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let error = Catalogue::load(std::slice::from_ref(&missing)).unwrap_err();
    assert_eq!(error.problems[0].place, missing.display().to_string());
    write(dir.path(), "tea.proto", [0xff, 0xfe]);
    let error = Catalogue::load(&[dir.path().to_owned()]).unwrap_err();
    assert_eq!(error.problems[0].place, dir.path().join("tea.proto").display().to_string());
    let error = Catalogue::load(&[dir.path().join("tea.proto")]).unwrap_err();
    assert!(error.to_string().contains("a directory of readable .proto files is needed"), "{error}");
    write(dir.path(), "tea.proto", "syntax = \"proto3\";\nmessage Tea }");
    let error = Catalogue::load(&[dir.path().to_owned()]).unwrap_err();
    assert!(error.problems[0].place.ends_with("tea.proto:2"), "{error}");
    fs::remove_file(dir.path().join("tea.proto")).unwrap();
    assert!(Catalogue::load(&[dir.path().to_owned()]).is_ok(), "an empty directory adds nothing");
}

#[test]
fn the_json_schema_says_what_is_taken() {
    let catalogue = tea(
        "  // How many.\n  int64 cups = 1;\n  repeated string tags = 2;\n  map<int32, double> heat = 3;\n\
         enum Kind { GREEN = 0; BLACK = 1; }\n  Kind kind = 4;\n  message Cup { bool full = 1; }\n  Cup cup = 5;\n\
         google.protobuf.Timestamp at = 6;\n  google.protobuf.UInt32Value n = 7;",
    )
    .unwrap();
    let schema = catalogue.get("tea.made").unwrap().json_schema();
    let properties = serde_json::json!({
        "cups": {"type": "integer", "format": "int64", "description": "How many."},
        "tags": {"type": "array", "items": {"type": "string"}},
        "heat": {
            "type": "object",
            "additionalProperties": {"type": "number", "format": "double"},
            "propertyNames": {"pattern": "^-?[0-9]+$"}
        },
        "kind": {"type": "string", "enum": ["GREEN", "BLACK"]},
        "cup": {
            "type": "object",
            "properties": {"full": {"type": "boolean"}},
            "additionalProperties": false
        },
        "at": {"type": "string", "format": "date-time"},
        "n": {"type": "integer", "format": "uint32", "minimum": 0, "maximum": u32::MAX}
    });
    assert_eq!(schema["properties"], properties);
    assert_eq!(schema["title"], "tea.made");
    assert_eq!(schema["additionalProperties"], false);
}

/// The example of the guide on declaring types.
#[test]
fn the_example_of_the_guide_works() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/signals");
    let catalogue = Catalogue::load(&[dir]).unwrap();
    let session = catalogue.get("reading.session").unwrap();
    assert_eq!(session.table, "reading_session");
    assert_eq!(catalogue.get("book.read").unwrap().name, "reading.session");
    let data = raw(
        r#"{"book":"The Waves","pages":31,"mood":"ABSORBED","where":{"place":"train"},"reading":"2520s"}"#,
    );
    let bytes = session.encode_json(&data, UnknownFields::Reject).unwrap();
    let mut table = session.builder();
    table.append(0, 0, &record("reading.session", bytes)).unwrap();
    let batch = table.finish();
    let columns: Vec<&str> = batch.schema_ref().fields().iter().skip(7).map(|f| f.name().as_str()).collect();
    assert_eq!(columns, ["book", "pages", "reading", "mood", "where", "tags"]);
    let wrong = session.encode_json(&raw(r#"{"pages":"many"}"#), UnknownFields::Reject).unwrap_err();
    assert_eq!(wrong.to_string(), r#"data.pages: expected an integer, got "many""#);
}
