//! YAML text that every reader, kubectl included, takes for the same value.

use serde_json::Value;

/// One document, without a leading `---`, with a final line break.
pub fn emit(value: &Value) -> String {
    match serde_saphyr::to_string(value) {
        Ok(mut text) => {
            if !text.ends_with('\n') {
                text.push('\n');
            }
            text
        }
        // JSON is YAML: a writer's refusal costs looks, never the value.
        Err(_) => format!("{value}\n"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::yaml::read;

    fn value() -> impl Strategy<Value = Value> {
        let nasty = prop::sample::select(vec![
            "yes",
            "no",
            "on",
            "y",
            "N",
            "1_000",
            "<<",
            "0644",
            "1e3",
            "~",
            "null",
            "2024-01-02",
            "",
            " a",
            "a ",
            "#a",
            "a: b",
            "- a",
            "a\nb",
            "a\nb\n",
            "\t",
            ".inf",
            "0x1F",
            "true",
            "'",
            "\"",
            "!a",
            "&a",
            "*a",
            "%a",
            "@a",
            "`",
            "1.10",
            "12:30",
            "=",
            "\u{feff}",
            "a\rb",
            "\u{85}",
            "\u{2028}",
            "---",
            "...",
            "?",
            "{",
            "[",
            "|",
            ">",
        ]);
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            nasty.prop_map(Value::from),
            "[ -~]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map("[a-z<~0-9. -]{0,6}", inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(value in value()) {
            let wrapped = serde_json::json!({"v": value});
            let text = emit(&wrapped);
            let read = read(text.as_bytes(), "f").map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
            prop_assert_eq!(read.len(), 1);
            prop_assert_eq!(&read[0].value, &wrapped, "{}", text);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes, "f");
        }

        #[test]
        fn no_soup_of_tokens_makes_it_panic(
            tokens in prop::collection::vec(prop::sample::select(vec![
                "a", ": ", "- ", "\n", "  ", "{", "}", "[", "]", ",", "&x ", "*x", "<<", "!!int ", "!t ", "|\n", ">\n",
                "'", "\"", "---\n", "...\n", "? ", "#", "\t", "0x", "1e9", "~", "%YAML 1.1\n", "\r\n",
            ]), 0..40)
        ) {
            let _ = read(tokens.concat().as_bytes(), "f");
        }
    }
}
