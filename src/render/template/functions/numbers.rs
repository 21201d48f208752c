//! Arithmetic.

use super::{Called, any, int};
use crate::render::template::value::Value;

pub(super) fn call(name: &str, arguments: &[Value]) -> Called {
    let ints = || arguments.iter().map(Value::to_int);
    let floats = || arguments.iter().map(Value::to_float);
    let fold = |f: fn(f64, f64) -> f64| Ok(Value::Float(tidy(floats().reduce(f).unwrap_or_default())));
    let (a, b) = (any(arguments, 0).to_int(), any(arguments, 1).to_int());
    Some(match name {
        "int" => Ok(Value::Int(a)),
        "int64" => Ok(Value::Long(a)),
        "float64" => Ok(Value::Float(any(arguments, 0).to_float())),
        "add1" => Ok(Value::Long(a.wrapping_add(1))),
        "add" => Ok(Value::Long(ints().fold(0, i64::wrapping_add))),
        "sub" => Ok(Value::Long(a.wrapping_sub(b))),
        "mul" => Ok(Value::Long(ints().fold(1, i64::wrapping_mul))),
        "div" if b == 0 => Err("runtime error: integer divide by zero".to_owned()),
        "mod" if b == 0 => Err("runtime error: integer divide by zero".to_owned()),
        "div" => Ok(Value::Long(a.wrapping_div(b))),
        "mod" => Ok(Value::Long(a.wrapping_rem(b))),
        "max" | "biggest" => Ok(Value::Long(ints().max().unwrap_or_default())),
        "min" => Ok(Value::Long(ints().min().unwrap_or_default())),
        "maxf" => fold(f64::max),
        "minf" => fold(f64::min),
        "addf" => Ok(Value::Float(tidy(floats().fold(0.0, |a, b| a + b)))),
        "add1f" => Ok(Value::Float(tidy(any(arguments, 0).to_float() + 1.0))),
        "subf" => fold(|a, b| tidy(a - b)),
        "mulf" => fold(|a, b| tidy(a * b)),
        "divf" if floats().skip(1).any(|value| value == 0.0) => Err("decimal division by 0".to_owned()),
        "divf" => Ok(Value::Float(floats().reduce(|a, b| sixteen(a / b)).unwrap_or_default())),
        "floor" => Ok(Value::Float(any(arguments, 0).to_float().floor())),
        "ceil" => Ok(Value::Float(any(arguments, 0).to_float().ceil())),
        "round" => {
            let at = match arguments.get(2) {
                Some(Value::Float(at)) => *at,
                _ => 0.5,
            };
            let power = 10_f64.powi(i32::try_from(int(arguments, 1)).unwrap_or(0));
            let digit = power * any(arguments, 0).to_float();
            let up = digit.fract() >= at;
            Ok(Value::Float(if up { digit.ceil() } else { digit.floor() } / power))
        }
        "toDecimal" => Ok(Value::Long(i64::from_str_radix(&any(arguments, 0).print(), 8).unwrap_or(0))),
        _ => return None,
    })
}

/// A quotient has 16 places behind the point, as in the library that Sprig divides with.
fn sixteen(value: f64) -> f64 {
    format!("{value:.16}").parse().unwrap_or(value)
}

/// Sprig counts in decimals: 0.1 and 0.2 are 0.3.
fn tidy(value: f64) -> f64 {
    let text = format!("{value:.15}");
    let short: f64 = text.parse().unwrap_or(value);
    let shorter = format!("{value:.14}").parse().unwrap_or(value);
    if (short - shorter).abs() < 1e-13 { shorter } else { short }
}
