//! `printf` and its like, and quoting.

use super::{Called, any, text};
use crate::render::template::value::{Value, go_float};

pub(super) fn call(name: &str, arguments: &[Value]) -> Called {
    Some(Ok(Value::text(match name {
        "printf" => format(text(arguments, 0), &arguments[1..]),
        // A blank stands between two operands of which none is a text.
        "print" => {
            let mut out = String::new();
            for (at, value) in arguments.iter().enumerate() {
                let apart = at > 0
                    && !matches!(value, Value::Text(_))
                    && !matches!(arguments[at - 1], Value::Text(_));
                if apart {
                    out.push(' ');
                }
                out.push_str(&value.print());
            }
            out
        }
        "println" => arguments.iter().map(Value::print).collect::<Vec<_>>().join(" ") + "\n",
        "html" => all(arguments).chars().map(html).collect(),
        "js" => all(arguments).chars().map(js).collect(),
        "urlquery" => super::paths::query(&all(arguments)),
        _ => return None,
    })))
}

fn all(arguments: &[Value]) -> String {
    match arguments {
        [Value::Text(text)] => text.to_string(),
        several => several.iter().map(Value::print).collect::<Vec<_>>().join(" "),
    }
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

/// `%q`: a Go string.
pub(super) fn quoted(text: &str) -> String {
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
            c if c.is_control() && u32::from(c) < 0x80 => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if c.is_control()
                || matches!(c, '\u{a0}' | '\u{feff}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202f}' | '\u{e000}'..='\u{f8ff}') =>
            {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[derive(Default)]
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

/// Widest field that a verb may ask for.
const MAX_WIDTH: usize = 100_000;

/// `fmt.Sprintf`.
fn format(pattern: &str, arguments: &[Value]) -> String {
    let mut out = String::new();
    let mut chars = pattern.chars().peekable();
    let mut next = 0;
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut spec = Spec::default();
        while let Some(flag) = chars.peek() {
            match flag {
                '-' => (spec.minus, spec.zero) = (true, false),
                '+' => spec.plus = true,
                '#' => spec.sharp = true,
                ' ' => spec.space = true,
                '0' => spec.zero = !spec.minus,
                _ => break,
            }
            chars.next();
        }
        let number =
            |chars: &mut std::iter::Peekable<std::str::Chars<'_>>, next: &mut usize| -> Option<usize> {
                if chars.peek() == Some(&'*') {
                    chars.next();
                    let value = any(arguments, *next).to_int();
                    *next += 1;
                    return usize::try_from(value).ok().map(|width| width.min(MAX_WIDTH));
                }
                let mut found = None;
                while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
                    found = Some((found.unwrap_or(0) * 10 + digit as usize).min(MAX_WIDTH));
                    chars.next();
                }
                found
            };
        spec.width = number(&mut chars, &mut next);
        if chars.peek() == Some(&'.') {
            chars.next();
            spec.precision = Some(number(&mut chars, &mut next).unwrap_or(0));
        }
        let Some(verb) = chars.next() else {
            out.push_str("%!(NOVERB)");
            break;
        };
        if verb == '%' {
            out.push('%');
            continue;
        }
        let Some(value) = arguments.get(next) else {
            out.push_str(&format!("%!{verb}(MISSING)"));
            continue;
        };
        next += 1;
        out.push_str(&one(&spec, verb, value));
    }
    if next < arguments.len() {
        let extra: Vec<String> = arguments[next..]
            .iter()
            .map(|value| {
                if value.is_nil() {
                    "<nil>".to_owned()
                } else {
                    format!("{}={}", value.type_name(), value.print())
                }
            })
            .collect();
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    out
}

fn one(spec: &Spec, verb: char, value: &Value) -> String {
    if value.is_nil() {
        return match verb {
            'v' => pad(spec, "<nil>", false),
            'T' => pad(spec, "<nil>", false),
            verb => format!("%!{verb}(<nil>)"),
        };
    }
    if verb == 'T' {
        return pad(spec, value.type_name(), false);
    }
    if let Some(items) = value.items()
        && !matches!(verb, 'v' | 'p')
    {
        let all: Vec<String> = items.iter().map(|item| one(spec, verb, item)).collect();
        return format!("[{}]", all.join(" "));
    }
    if let Some(fields) = value.fields()
        && verb != 'v'
    {
        let all: Vec<String> = fields
            .borrow()
            .iter()
            .map(|(name, value)| {
                format!("{}:{}", one(spec, verb, &Value::text(name)), one(spec, verb, value))
            })
            .collect();
        return format!("map[{}]", all.join(" "));
    }
    let bad = || format!("%!{verb}({}={})", value.type_name(), value.print());
    match value {
        Value::Bool(_) if matches!(verb, 'v' | 't') => pad(spec, &value.print(), false),
        Value::Int(number) | Value::Long(number) => integer(spec, verb, *number).unwrap_or_else(bad),
        Value::Float(number) => float(spec, verb, *number).unwrap_or_else(bad),
        Value::Text(text) => match verb {
            'v' if spec.sharp => pad(spec, &quoted(text), false),
            'v' | 's' => {
                let cut: String = text.chars().take(spec.precision.unwrap_or(usize::MAX)).collect();
                pad(spec, &cut, false)
            }
            'q' if spec.sharp
                && !text.contains('`')
                && !text.chars().any(|c| c.is_control() && c != '\t') =>
            {
                pad(spec, &format!("`{text}`"), false)
            }
            'q' => pad(spec, &quoted(text), false),
            'x' => pad(spec, &text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>(), false),
            'X' => pad(spec, &text.bytes().map(|byte| format!("{byte:02X}")).collect::<String>(), false),
            _ => bad(),
        },
        other if matches!(verb, 'v' | 's') => pad(spec, &other.print(), false),
        _ => bad(),
    }
}

fn integer(spec: &Spec, verb: char, number: i64) -> Option<String> {
    let size = number.unsigned_abs();
    let mut digits = match verb {
        'd' | 'v' => size.to_string(),
        'b' => format!("{size:b}"),
        'o' | 'O' => format!("{size:o}"),
        'x' => format!("{size:x}"),
        'X' => format!("{size:X}"),
        'c' => return char::from_u32(u32::try_from(number).ok()?).map(|c| pad(spec, &c.to_string(), false)),
        'q' => {
            return char::from_u32(u32::try_from(number).ok()?).map(|c| pad(spec, &format!("'{c}'"), false));
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
