//! Encrypted JSON and, wrapped in it, binary files.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::tree::{Leaf, Node, Pair, Plain};

/// Reads an object, its keys in the order of the text; `None` for what is no JSON object. The crate's own limit of
/// 128 levels holds.
pub(super) fn read(text: &str) -> Option<Vec<Pair>> {
    match serde_json::from_str::<Ordered>(text).ok()?.0 {
        Node::Map(pairs) => Some(pairs),
        _ => None,
    }
}

struct Ordered(Node);

struct Reader;

fn leaf(value: Plain) -> Ordered {
    Ordered(Node::Leaf(Leaf { value, span: 0..0, line: 0, opened: false }))
}

impl<'de> Deserialize<'de> for Ordered {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Reader)
    }
}

impl<'de> Visitor<'de> for Reader {
    type Value = Ordered;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Ordered, E> {
        Ok(leaf(Plain::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Ordered, E> {
        Ok(leaf(Plain::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Ordered, E> {
        Ok(leaf(Plain::Int(value)))
    }

    #[expect(clippy::cast_precision_loss, reason = "SOPS keeps whole numbers beyond 63 bits as floats")]
    fn visit_u64<E>(self, value: u64) -> Result<Ordered, E> {
        Ok(leaf(i64::try_from(value).map_or(Plain::Float(value as f64), Plain::Int)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Ordered, E> {
        Ok(leaf(Plain::Float(value)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Ordered, E> {
        Ok(leaf(Plain::Text(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Ordered, A::Error> {
        let mut items = Vec::new();
        while let Some(Ordered(item)) = from.next_element()? {
            items.push(item);
        }
        Ok(Ordered(Node::List(items)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Ordered, A::Error> {
        let mut pairs = Vec::new();
        while let Some((key, Ordered(node))) = from.next_entry::<String, Ordered>()? {
            pairs.push(Pair { key, at: 0, node });
        }
        Ok(Ordered(Node::Map(pairs)))
    }
}

/// The text that `sops -d` prints: tabs, and `<`, `>` and `&` spelled as Go spells them.
pub(super) fn write(root: &Node) -> String {
    let mut out = String::new();
    node(root, 0, &mut out);
    out.push('\n');
    out
}

fn node(value: &Node, depth: usize, out: &mut String) {
    let line = |depth: usize| format!("\n{}", "\t".repeat(depth));
    match value {
        Node::Map(pairs) if pairs.is_empty() => out.push_str("{}"),
        Node::List(items) if items.iter().all(Node::is_comment) => out.push_str("[]"),
        Node::Map(pairs) => {
            out.push('{');
            for (place, pair) in pairs.iter().enumerate() {
                out.push_str(if place > 0 { "," } else { "" });
                out.push_str(&line(depth + 1));
                out.push_str(&quoted(&pair.key));
                out.push_str(": ");
                node(&pair.node, depth + 1, out);
            }
            out.push_str(&line(depth));
            out.push('}');
        }
        Node::List(items) => {
            out.push('[');
            for (place, item) in items.iter().filter(|item| !item.is_comment()).enumerate() {
                out.push_str(if place > 0 { "," } else { "" });
                out.push_str(&line(depth + 1));
                node(item, depth + 1, out);
            }
            out.push_str(&line(depth));
            out.push(']');
        }
        Node::Leaf(leaf) => match &leaf.value {
            Plain::Null => out.push_str("null"),
            Plain::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Plain::Int(value) => out.push_str(&value.to_string()),
            Plain::Float(value) => out.push_str(&number(*value)),
            Plain::Text(text) | Plain::Time(text) | Plain::Comment(text) => out.push_str(&quoted(text)),
        },
    }
}

fn quoted(text: &str) -> String {
    let mut json = Value::from(text).to_string();
    for (sign, spelled) in [
        ("<", "\\u003c"),
        (">", "\\u003e"),
        ("&", "\\u0026"),
        ("\u{2028}", "\\u2028"),
        ("\u{2029}", "\\u2029"),
    ] {
        if json.contains(sign) {
            json = json.replace(sign, spelled);
        }
    }
    json
}

/// Exponents below 1e-6 and from 1e21, as Go's encoder writes them.
fn number(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{value:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let sign = if exponent.starts_with('-') { "" } else { "+" };
        return format!("{mantissa}e{sign}{exponent}");
    }
    value.to_string()
}
