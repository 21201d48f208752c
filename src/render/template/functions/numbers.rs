//! Arithmetic.

use super::{Called, any, int};
use crate::render::template::value::Value;

pub(super) fn call(name: &str, arguments: &[Value]) -> Called {
    let ints = || arguments.iter().map(Value::to_int);
    let floats = || arguments.iter().map(Value::to_float);
    let fold = |f: fn(f64, f64) -> f64| Ok(Value::Float(floats().reduce(f).unwrap_or_default()));
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
        "addf" => Ok(decimal(std::iter::once(0.0).chain(floats()), Decimal::add, |a, b| a + b)),
        "add1f" => Ok(decimal([any(arguments, 0).to_float(), 1.0].into_iter(), Decimal::add, |a, b| a + b)),
        "subf" => Ok(decimal(floats(), Decimal::sub, |a, b| a - b)),
        "mulf" => Ok(decimal(floats(), Decimal::mul, |a, b| a * b)),
        "divf" if floats().skip(1).any(|value| value == 0.0) => Err("decimal division by 0".to_owned()),
        "divf" => Ok(decimal(floats(), Decimal::div, |a, b| a / b)),
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

/// Sprig counts in decimals, so that 0.1 and 0.2 are 0.3. Where a number is longer than 38 digits, floats must do.
fn decimal(
    numbers: impl Iterator<Item = f64>,
    exact: fn(Decimal, Decimal) -> Option<Decimal>,
    rough: fn(f64, f64) -> f64,
) -> Value {
    let numbers: Vec<f64> = numbers.collect();
    let mut all = numbers.iter().map(|number| Decimal::of(*number));
    let first = all.next().unwrap_or(None);
    let sum = first.and_then(|first| all.try_fold(first, |sum, next| exact(sum, next?)));
    let rough = || numbers.iter().copied().reduce(rough).unwrap_or_default();
    Value::Float(sum.and_then(Decimal::float).unwrap_or_else(rough))
}

/// Digits and how many of them stand behind the point.
#[derive(Clone, Copy)]
struct Decimal {
    digits: i128,
    places: u32,
}

impl Decimal {
    /// The shortest decimal that means a float.
    fn of(number: f64) -> Option<Self> {
        let text = number.to_string();
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        let digits = format!("{whole}{fraction}").parse().ok()?;
        Some(Self { digits, places: u32::try_from(fraction.len()).ok()? })
    }

    fn float(self) -> Option<f64> {
        format!("{}e-{}", self.digits, self.places).parse().ok()
    }

    /// With so many places.
    fn widened(self, places: u32) -> Option<i128> {
        self.digits.checked_mul(10_i128.checked_pow(places - self.places)?)
    }

    fn add(self, other: Self) -> Option<Self> {
        let places = self.places.max(other.places);
        Some(Self { digits: self.widened(places)?.checked_add(other.widened(places)?)?, places })
    }

    fn sub(self, other: Self) -> Option<Self> {
        self.add(Self { digits: other.digits.checked_neg()?, places: other.places })
    }

    fn mul(self, other: Self) -> Option<Self> {
        let digits = self.digits.checked_mul(other.digits)?;
        Some(Self { digits, places: self.places.checked_add(other.places)? })
    }

    /// With 16 places behind the point, a half going up.
    fn div(self, other: Self) -> Option<Self> {
        let above = self.digits.checked_mul(10_i128.checked_pow(16_u32.checked_add(other.places)?)?)?;
        let below = other.digits.checked_mul(10_i128.checked_pow(self.places)?)?;
        let (quotient, rest) = (above.checked_div(below)?, above.checked_rem(below)?);
        let up = rest.checked_mul(2)?.abs() >= below.abs();
        let step = if (above < 0) == (below < 0) { 1 } else { -1 };
        Some(Self { digits: quotient + if up { step } else { 0 }, places: 16 })
    }
}
