//! The documents of `docs/json.md`, and the comparison with what is printed.

use std::collections::BTreeMap;

use serde_json::Value;

/// The example of every section that has one, by its heading.
pub fn page() -> BTreeMap<String, Value> {
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/json.md")).unwrap();
    let mut page = BTreeMap::new();
    for section in text.split("\n## ").skip(1) {
        let heading = section.lines().next().unwrap().trim().to_owned();
        if let Some((_, rest)) = section.split_once("```json\n") {
            let example = rest.split("```").next().unwrap();
            page.insert(heading, serde_json::from_str(example).unwrap());
        }
    }
    page
}

/// Fails unless the line is a document of the page with exactly its fields, each of the kind shown there or null.
pub fn assert_shape(line: &str) {
    let value: Value = serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}"));
    let kind = value["type"].as_str().unwrap_or_else(|| panic!("no type: {line}"));
    let page = page();
    let shown = page.get(kind).unwrap_or_else(|| panic!("not in docs/json.md: {line}"));
    compare(kind, shown, &value);
}

fn compare(at: &str, shown: &Value, told: &Value) {
    match (shown, told) {
        (Value::Object(shown), Value::Object(told)) => {
            let (a, b): (Vec<_>, Vec<_>) = (shown.keys().collect(), told.keys().collect());
            assert_eq!(a, b, "fields of {at}");
            for (key, value) in shown {
                compare(&format!("{at}.{key}"), value, &told[key]);
            }
        }
        (Value::Array(shown), Value::Array(told)) => {
            for one in told {
                compare(&format!("{at}[]"), &shown[0], one);
            }
        }
        (Value::Null, _) | (_, Value::Null) => {}
        (shown, told) => {
            let same = std::mem::discriminant(shown) == std::mem::discriminant(told);
            assert!(same, "{at}: the page shows {shown}, told is {told}");
        }
    }
}
