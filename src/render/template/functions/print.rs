//! `printf` and its like, and quoting.

use super::{Called, text};
use crate::render::template::value::{MAX_TEXT, Value, go_float};

pub(super) fn call(name: &str, arguments: &[Value]) -> Called {
    Some(made(name, arguments)?.map(Value::text))
}

fn made(name: &str, arguments: &[Value]) -> Option<Result<String, String>> {
    Some(match name {
        "printf" => format(text(arguments, 0), &arguments[1..]),
        "print" => printed(arguments),
        "println" => spaced(arguments).map(|text| text + "\n"),
        "html" => all(arguments).map(|text| text.chars().map(html).collect()),
        "js" => all(arguments).map(|text| text.chars().map(js).collect()),
        "urlquery" => all(arguments).map(|text| super::paths::query(&text)),
        _ => return None,
    })
}

/// A blank stands between two operands of which none is a text.
fn printed(arguments: &[Value]) -> Result<String, String> {
    let mut out = String::new();
    for (at, value) in arguments.iter().enumerate() {
        let text = |value: &Value| matches!(value, Value::Text(_));
        if at > 0 && !text(value) && !text(&arguments[at - 1]) {
            out.push(' ');
        }
        value.print_into(&mut out)?;
        within(&out)?;
    }
    Ok(out)
}

fn within(out: &str) -> Result<(), String> {
    if out.len() > MAX_TEXT { Err("the text would be longer than 16 MiB".to_owned()) } else { Ok(()) }
}

fn spaced(arguments: &[Value]) -> Result<String, String> {
    let mut out = String::new();
    for (at, value) in arguments.iter().enumerate() {
        if at > 0 {
            out.push(' ');
        }
        value.print_into(&mut out)?;
        within(&out)?;
    }
    Ok(out)
}

/// What `html` and its like make one text of: as `print` does it.
fn all(arguments: &[Value]) -> Result<String, String> {
    if let [value] = arguments
        && value.is_nil()
    {
        return Ok("<no value>".to_owned());
    }
    printed(arguments)
}

fn html(c: char) -> String {
    match c {
        '\0' => "\u{fffd}".to_owned(),
        '"' => "&#34;".to_owned(),
        '\'' => "&#39;".to_owned(),
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        c => c.to_string(),
    }
}

fn js(c: char) -> String {
    match c {
        '\\' => "\\\\".to_owned(),
        '\'' => "\\'".to_owned(),
        '"' => "\\\"".to_owned(),
        '<' | '>' | '&' | '=' => format!("\\u{:04X}", u32::from(c)),
        c if c.is_control() => format!("\\u{:04X}", u32::from(c)),
        c => c.to_string(),
    }
}

/// Whether Go prints a character as it is: letters, marks, numbers, symbols and the blank.
fn is_printed(c: char) -> bool {
    // Rust leaves the same ones bare in its own quotes, but for marks that combine and the three it escapes.
    let mut escaped = c.escape_debug();
    let bare = escaped.next() == Some(c) && escaped.next().is_none();
    let marks = matches!(u32::from(c), 0x300..=0x36f | 0x483..=0x489 | 0x591..=0x5bd | 0x610..=0x61a | 0x64b..=0x65f
        | 0x900..=0x903 | 0x93a..=0x94f | 0x1ab0..=0x1aff | 0x1dc0..=0x1dff | 0x20d0..=0x20f0 | 0x3099..=0x309a
        | 0xfe00..=0xfe0f | 0xfe20..=0xfe2f | 0xe0100..=0xe01ef);
    bare || marks || matches!(c, '"' | '\'' | '\\')
}

/// `%q`: a Go string.
pub(in crate::render::template) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if u32::from(c) < 0x20 || c == '\u{7f}' => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if !is_printed(c) && u32::from(c) < 0x1_0000 => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c if !is_printed(c) => out.push_str(&format!("\\U{:08x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[derive(Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "the flags of a verb")]
struct Spec {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// Widest field and longest precision; Go says the same of more.
const MAX_WIDTH: usize = 1_000_000;

/// `fmt.Sprintf`.
fn format(pattern: &str, arguments: &[Value]) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = pattern;
    let (mut next, mut reordered) = (0, false);
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let mut spec = Spec::default();
        rest = flags(rest, &mut spec);
        let mut good = true;
        rest = indexed(rest, arguments.len(), &mut next, &mut reordered, &mut good);
        if let Some(after) = rest.strip_prefix('*') {
            rest = after;
            match width(arguments.get(next)) {
                Some(width) => {
                    spec.width = usize::try_from(width.unsigned_abs()).ok();
                    if width < 0 {
                        (spec.minus, spec.zero) = (true, false);
                    }
                }
                None => out.push_str("%!(BADWIDTH)"),
            }
            next += 1;
        } else {
            (spec.width, rest) = digits(rest);
        }
        if let Some(after) = rest.strip_prefix('.') {
            rest = indexed(after, arguments.len(), &mut next, &mut reordered, &mut good);
            if let Some(after) = rest.strip_prefix('*') {
                rest = after;
                spec.precision = width(arguments.get(next)).and_then(|width| usize::try_from(width).ok());
                if width(arguments.get(next)).is_none() {
                    out.push_str("%!(BADPREC)");
                }
                next += 1;
            } else {
                (spec.precision, rest) = digits(rest);
                spec.precision = Some(spec.precision.unwrap_or(0));
            }
        }
        rest = indexed(rest, arguments.len(), &mut next, &mut reordered, &mut good);
        let Some(verb) = rest.chars().next() else {
            out.push_str("%!(NOVERB)");
            break;
        };
        rest = &rest[verb.len_utf8()..];
        match verb {
            '%' => out.push('%'),
            _ if !good => out.push_str(&format!("%!{verb}(BADINDEX)")),
            verb => match arguments.get(next) {
                Some(value) => {
                    next += 1;
                    // What cannot be printed plain is refused before it is printed in parts.
                    if value.items().is_some() || value.fields().is_some() {
                        value.show()?;
                    }
                    one(&mut out, &spec, verb, value, 0)?;
                }
                None => out.push_str(&format!("%!{verb}(MISSING)")),
            },
        }
        within(&out)?;
    }
    out.push_str(rest);
    if !reordered && next < arguments.len() {
        out.push_str("%!(EXTRA ");
        for (number, value) in arguments[next..].iter().enumerate() {
            if number > 0 {
                out.push_str(", ");
            }
            if value.is_nil() {
                out.push_str("<nil>");
            } else {
                out.push_str(&format!("{}=", value.type_name()));
                value.print_into(&mut out)?;
            }
        }
        out.push(')');
    }
    within(&out)?;
    Ok(out)
}

fn flags<'a>(rest: &'a str, spec: &mut Spec) -> &'a str {
    for (at, flag) in rest.char_indices() {
        match flag {
            '-' => (spec.minus, spec.zero) = (true, false),
            '+' => spec.plus = true,
            '#' => spec.sharp = true,
            ' ' => spec.space = true,
            '0' => spec.zero = !spec.minus,
            _ => return &rest[at..],
        }
    }
    ""
}

/// `[2]`: the argument that is next.
fn indexed<'a>(
    rest: &'a str,
    count: usize,
    next: &mut usize,
    reordered: &mut bool,
    good: &mut bool,
) -> &'a str {
    let Some(inner) = rest.strip_prefix('[') else { return rest };
    *reordered = true;
    let Some((number, after)) = inner.split_once(']') else {
        *good = false;
        return inner;
    };
    match number.parse::<usize>() {
        Ok(number) if number > 0 && number <= count => *next = number - 1,
        _ => *good = false,
    }
    after
}

fn width(value: Option<&Value>) -> Option<i64> {
    match value {
        Some(Value::Int(width) | Value::Long(width)) if width.unsigned_abs() <= MAX_WIDTH as u64 => {
            Some(*width)
        }
        _ => None,
    }
}

fn digits(rest: &str) -> (Option<usize>, &str) {
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let number = rest[..end].parse().ok().filter(|number| *number <= MAX_WIDTH);
    (number, &rest[end..])
}

fn one(out: &mut String, spec: &Spec, verb: char, value: &Value, depth: usize) -> Result<(), String> {
    within(out)?;
    if depth > 200 {
        return Err("the value is nested deeper than 200 levels, or holds itself".to_owned());
    }
    if value.is_nil() {
        match verb {
            // In a list, a nil is printed whatever is asked.
            _ if depth > 0 => out.push_str("<nil>"),
            'v' | 'T' => out.push_str(&pad(spec, "<nil>", false)),
            verb => out.push_str(&format!("%!{verb}(<nil>)")),
        }
        return Ok(());
    }
    if verb == 'T' {
        out.push_str(&pad(spec, value.type_name(), false));
        return Ok(());
    }
    let go = spec.sharp && verb == 'v';
    // A plus asks `%v` for names of fields, not for signs.
    let mut spec = *spec;
    spec.plus &= verb != 'v';
    let spec = &spec;
    if let Some(items) = value.items()
        && verb != 'p'
    {
        out.push_str(&if go { format!("{}{{", value.type_name()) } else { "[".to_owned() });
        for (number, item) in items.iter().enumerate() {
            if number > 0 {
                out.push_str(if go { ", " } else { " " });
            }
            one(out, spec, verb, item, depth + 1)?;
        }
        out.push(if go { '}' } else { ']' });
        return Ok(());
    }
    if let Some(fields) = value.fields() {
        out.push_str(&if go { format!("{}{{", value.type_name()) } else { "map[".to_owned() });
        for (number, (name, value)) in fields.borrow().iter().enumerate() {
            if number > 0 {
                out.push_str(if go { ", " } else { " " });
            }
            one(out, spec, verb, &Value::text(name), depth + 1)?;
            out.push(':');
            one(out, spec, verb, value, depth + 1)?;
        }
        out.push(if go { '}' } else { ']' });
        return Ok(());
    }
    let bad = || format!("%!{verb}({}={})", value.type_name(), value.print());
    let shown = match value {
        Value::Bool(_) if matches!(verb, 'v' | 't') => pad(spec, &value.print(), false),
        Value::Int(number) | Value::Long(number) => integer(spec, verb, *number).unwrap_or_else(bad),
        Value::Float(number) => float(spec, verb, *number).unwrap_or_else(bad),
        Value::Bytes(_) => return Err(crate::render::template::value::NOT_TEXT.to_owned()),
        Value::Text(text) => match verb {
            'v' if spec.sharp => pad(spec, &quoted(text), false),
            'v' | 's' => {
                let cut: String = text.chars().take(spec.precision.unwrap_or(usize::MAX)).collect();
                pad(spec, &cut, false)
            }
            'q' => {
                let cut: String = text.chars().take(spec.precision.unwrap_or(usize::MAX)).collect();
                let raw = spec.sharp
                    && !cut.contains('`')
                    && !cut.chars().any(|c| (c.is_control() && c != '\t') || c == '\u{feff}');
                let shown = if raw { format!("`{cut}`") } else { quoted(&cut) };
                pad(spec, &if spec.plus { ascii(&shown) } else { shown }, false)
            }
            'x' | 'X' => pad(spec, &hexadecimal(spec, verb, text.as_bytes()), false),
            _ => bad(),
        },
        Value::Object(object) => match verb {
            's' | 'q' | 'x' if object.bytes().is_some() => {
                return one(out, spec, verb, &value.as_text()?, depth + 1);
            }
            'v' | 's' => pad(spec, &object.print(), false),
            'd' if object.kind() == "int" => object.json().to_string(),
            _ => bad(),
        },
        _ => bad(),
    };
    out.push_str(&shown);
    Ok(())
}

/// A value as `%s` shows it.
pub(super) fn as_text(value: &Value) -> Result<String, String> {
    let mut out = String::new();
    one(&mut out, &Spec::default(), 's', value, 0)?;
    Ok(out)
}

/// Characters beyond ASCII as their codes.
fn ascii(text: &str) -> String {
    let code = |c: char| match u32::from(c) {
        0..0x80 => c.to_string(),
        code @ 0x80..0x1_0000 => format!("\\u{code:04x}"),
        code => format!("\\U{code:08x}"),
    };
    text.chars().map(code).collect()
}

/// Bytes in base 16; a blank flag sets them apart, a sharp one marks them.
fn hexadecimal(spec: &Spec, verb: char, bytes: &[u8]) -> String {
    let bytes = &bytes[..bytes.len().min(spec.precision.unwrap_or(usize::MAX))];
    let mut out = String::new();
    for (number, byte) in bytes.iter().enumerate() {
        if spec.space && number > 0 {
            out.push(' ');
        }
        if spec.sharp && (number == 0 || spec.space) {
            out.push_str(if verb == 'x' { "0x" } else { "0X" });
        }
        out.push_str(&if verb == 'x' { format!("{byte:02x}") } else { format!("{byte:02X}") });
    }
    out
}

fn integer(spec: &Spec, verb: char, number: i64) -> Option<String> {
    let size = number.unsigned_abs();
    let mut digits = match verb {
        'd' | 'v' => size.to_string(),
        'b' => format!("{size:b}"),
        'o' | 'O' => format!("{size:o}"),
        'x' => format!("{size:x}"),
        'X' => format!("{size:X}"),
        'c' => {
            let c = u32::try_from(number).ok().and_then(char::from_u32).unwrap_or('\u{fffd}');
            return Some(pad(spec, &c.to_string(), false));
        }
        'q' => {
            let c = u32::try_from(number).ok().and_then(char::from_u32).unwrap_or('\u{fffd}');
            let inner = quoted(&c.to_string());
            let inner = match c {
                '\'' => "\\'",
                '"' => "\"",
                _ => &inner[1..inner.len() - 1],
            };
            return Some(pad(spec, &format!("'{inner}'"), false));
        }
        'U' => return Some(pad(spec, &format!("U+{size:04X}"), false)),
        _ => return None,
    };
    if let Some(precision) = spec.precision {
        digits = format!("{digits:0>precision$}");
    }
    let prefix = match verb {
        'x' if spec.sharp => "0x",
        'X' if spec.sharp => "0X",
        'o' if spec.sharp => "0",
        'O' => "0o",
        'b' if spec.sharp => "0b",
        _ => "",
    };
    let sign = if number < 0 {
        "-"
    } else if spec.plus {
        "+"
    } else if spec.space {
        " "
    } else {
        ""
    };
    Some(signed(spec, sign, &format!("{prefix}{digits}"), spec.precision.is_none()))
}

fn float(spec: &Spec, verb: char, number: f64) -> Option<String> {
    let size = number.abs();
    let exponent = |text: String| -> String {
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
        format!("{mantissa}e{sign}{digits:0>2}")
    };
    let text = match (verb, spec.precision) {
        ('x' | 'X', _) => {
            return hex_float(number).map(|text| {
                let text = if verb == 'X' { text.to_uppercase() } else { text };
                pad(spec, &text, true)
            });
        }
        _ if !number.is_finite() => go_float(size),
        ('v' | 'g' | 'G', None) => go_float(size),
        ('v' | 'g' | 'G', Some(precision)) => general(size, precision.max(1)),
        ('f' | 'F', precision) => format!("{size:.*}", precision.unwrap_or(6)),
        ('e' | 'E', precision) => exponent(format!("{size:.*e}", precision.unwrap_or(6))),
        _ => return None,
    };
    let text = if verb.is_uppercase() { text.to_uppercase() } else { text };
    let sign = if number < 0.0 {
        "-"
    } else if spec.plus {
        "+"
    } else if spec.space {
        " "
    } else {
        ""
    };
    Some(signed(spec, sign, &text, true))
}

/// `%x` of a float: a mantissa in base 16 and a power of two.
fn hex_float(number: f64) -> Option<String> {
    if !number.is_finite() {
        return None;
    }
    let sign = if number.is_sign_negative() { "-" } else { "" };
    let bits = number.to_bits();
    let (raw, fraction) = ((bits >> 52) & 0x7ff, bits & ((1 << 52) - 1));
    if raw == 0 && fraction == 0 {
        return Some(format!("{sign}0x0p+00"));
    }
    let exponent = i64::try_from(raw).ok()? - 1023;
    if raw == 0 {
        return None;
    }
    let digits = format!("{fraction:013x}");
    let digits = digits.trim_end_matches('0');
    let point = if digits.is_empty() { "" } else { "." };
    let power = if exponent < 0 { '-' } else { '+' };
    Some(format!("{sign}0x1{point}{digits}p{power}{:02}", exponent.abs()))
}

/// `%.Ng`: so many digits, without zeros at the end.
fn general(size: f64, precision: usize) -> String {
    let text = format!("{size:.*e}", precision - 1);
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |text: &str| -> String {
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text.to_owned()
        }
    };
    if exponent < -4 || exponent >= i32::try_from(precision).unwrap_or(i32::MAX) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trim(mantissa), exponent.abs());
    }
    let places = usize::try_from(i32::try_from(precision).unwrap_or(0) - 1 - exponent).unwrap_or(0);
    trim(&format!("{size:.places$}"))
}

fn signed(spec: &Spec, sign: &str, digits: &str, may_fill: bool) -> String {
    if spec.zero && may_fill {
        let width = spec.width.unwrap_or(0).saturating_sub(sign.len());
        return format!("{sign}{digits:0>width$}");
    }
    pad(spec, &format!("{sign}{digits}"), true)
}

fn pad(spec: &Spec, text: &str, is_number: bool) -> String {
    let width = spec.width.unwrap_or(0);
    let missing = width.saturating_sub(text.chars().count());
    if spec.minus {
        return format!("{text}{}", " ".repeat(missing));
    }
    let fill = if spec.zero && !is_number { "0" } else { " " };
    format!("{}{text}", fill.repeat(missing))
}
