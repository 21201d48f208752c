//! Argo CD's health scripts, unchanged: `obj` in, a table `{status, message}` out.
//!
//! A fresh interpreter for each judgement, so that nothing is left of the one before. It has tables, strings and
//! arithmetic alone: nothing that reads files, loads code, sees the clock or catches an error. Instructions, memory
//! and time are limited, and so is what one pattern may cost, because no limit of instructions reaches into C.

use std::time::Duration;

use mlua::{HookTriggers, Lua, LuaOptions, StdLib, Value as Word, VmState};
use serde_json::Value;

use super::{Clock, Health as Verdict, Status};

/// Largest script, in bytes.
const LONGEST: usize = 64 << 10;
/// Memory of one judgement, besides the object itself.
const MEMORY: usize = 8 << 20;
/// Instructions of one judgement; a script of Argo CD needs a few thousand.
const INSTRUCTIONS: u32 = 10_000_000;
/// Between two looks at the limits.
const STEP: u32 = 1_000;
/// Time of one judgement, as in Argo CD.
const TIME: Duration = Duration::from_secs(1);
/// Longest message that is kept.
const MESSAGE: usize = 4 << 10;

/// What scripts of Lua 5.1 expect, and what they must not have. A pattern with k quantifiers over a text of n characters
/// may take as many steps as there are ways to share n among k and the rest, from each place of it; none of them is counted.
const PRELUDE: &str = r#"
local byte, floor, type, error, pairs, tonumber = string.byte, math.floor, type, error, pairs, tonumber
local function quantifiers(p)
  local i, n = 1, 0
  while i <= #p do
    local c, item = byte(p, i), true
    if c == 37 then
      c = byte(p, i + 1) or 0
      -- %b and %1 to %9 walk the text too.
      if c == 98 or (c >= 49 and c <= 57) then n = n + 1 end
      i = i + 2
    elseif c == 91 then
      i = i + 1
      if byte(p, i) == 94 then i = i + 1 end
      repeat
        if byte(p, i) == 37 then i = i + 1 end
        i = i + 1
      until i > #p or byte(p, i) == 93
      i = i + 1
    else item, i = not (c == 40 or c == 41 or c == 94), i + 1 end
    c = byte(p, i)
    if item and (c == 42 or c == 43 or c == 45 or c == 63) then n, i = n + 1, i + 1 end
  end
  return n
end
local function bounded(f)
  return function(text, pattern, ...)
    if type(text) == "string" and type(pattern) == "string" then
      local cost = (#pattern + 1) * (byte(pattern) == 94 and 1 or #text + 1)
      for k = 1, #pattern > 10000 and 0 or quantifiers(pattern) do cost = cost * (#text + k) / k end
      if cost > 1e9 or #pattern > 10000 then error("the pattern is too costly for a text of " .. #text .. " characters") end
    end
    return f(text, pattern, ...)
  end
end
for _, name in pairs({"find", "match", "gmatch", "gsub"}) do string[name] = bounded(string[name]) end
string.gfind, string.dump, string.pack, string.unpack, string.packsize = string.gmatch, nil, nil, nil, nil
local rep = string.rep
string.rep = function(text, count, ...)
  if (tonumber(count) or 0) > 1e6 then error("a text is repeated too often") end
  return rep(text, count, ...)
end
local unpack = table.unpack
table.getn, table.move = function(list) return #list end, nil
math.pow, math.mod, math.random, math.randomseed = function(a, b) return a ^ b end, math.fmod, nil, nil
os = {time = function(t)
  if type(t) ~= "table" then error("a judgement sees no clock") end
  local function part(name, absent) return tonumber(t[name]) or absent or error("there is no " .. name) end
  local y, m = part("year"), part("month")
  if m <= 2 then y, m = y - 1, m + 12 end
  local days = 365 * y + floor(y / 4) - floor(y / 100) + floor(y / 400) + floor((153 * (m - 3) + 2) / 5) + part("day") - 719469
  return floor(days * 86400 + part("hour", 12) * 3600 + part("min", 0) * 60 + part("sec", 0))
end}
local keep = {ipairs = 1, pairs = 1, next = 1, type = 1, tostring = 1, tonumber = 1, select = 1, error = 1, assert = 1,
  string = 1, table = 1, math = 1, os = 1}
local all, drop = _G, {}
for name in pairs(all) do if not keep[name] then drop[#drop + 1] = name end end
for _, name in pairs(drop) do all[name] = nil end
all.unpack = unpack
"#;

/// A script that parses.
pub(super) struct Health {
    script: String,
    clock: Clock,
}

fn interpreter(memory: usize, clock: Clock) -> mlua::Result<Lua> {
    let lua = Lua::new_with(StdLib::TABLE | StdLib::STRING | StdLib::MATH, LuaOptions::default())?;
    lua.set_memory_limit(memory)?;
    lua.load(PRELUDE).set_name("=prelude").exec()?;
    let begin = clock();
    let left = std::cell::Cell::new(INSTRUCTIONS / STEP);
    lua.set_hook(HookTriggers::new().every_nth_instruction(STEP), move |_, _| {
        left.set(left.get().saturating_sub(1));
        if left.get() == 0 || clock().saturating_sub(begin) > TIME {
            return Err(mlua::Error::runtime("the script runs too long"));
        }
        Ok(VmState::Continue)
    })?;
    Ok(lua)
}

/// As gopher-lua has it: fields that are null are not there.
fn pushed(lua: &Lua, value: &Value) -> mlua::Result<Word> {
    Ok(match value {
        Value::Null => Word::Nil,
        Value::Bool(is) => Word::Boolean(*is),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Word::Integer(whole),
            (None, Some(float)) => Word::Number(float),
            (None, None) => Word::Nil,
        },
        Value::String(text) => Word::String(lua.create_string(text)?),
        Value::Array(items) => {
            let table = lua.create_table_with_capacity(items.len(), 0)?;
            for (place, item) in items.iter().enumerate() {
                table.raw_set(place + 1, pushed(lua, item)?)?;
            }
            Word::Table(table)
        }
        Value::Object(fields) => {
            let table = lua.create_table_with_capacity(0, fields.len())?;
            for (name, field) in fields {
                table.raw_set(name.as_str(), pushed(lua, field)?)?;
            }
            Word::Table(table)
        }
    })
}

/// The error without the way to it.
fn words(error: &mlua::Error) -> String {
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    cut(first
        .strip_prefix("runtime error: ")
        .or_else(|| first.strip_prefix("syntax error: "))
        .unwrap_or(first))
}

fn cut(text: &str) -> String {
    if text.len() <= MESSAGE { text.to_owned() } else { text.chars().take(MESSAGE).collect() }
}

impl Health {
    /// Parses a script.
    pub(super) fn new(script: &str, clock: Clock) -> Result<Self, String> {
        if script.len() > LONGEST {
            return Err(format!("the script is longer than {LONGEST} bytes"));
        }
        let lua = interpreter(MEMORY, clock).map_err(|error| words(&error))?;
        lua.load(script)
            .set_name("=health.lua")
            .set_mode(mlua::chunk::ChunkMode::Text)
            .into_function()
            .map_err(|error| words(&error))?;
        Ok(Self { script: script.to_owned(), clock })
    }

    /// What the script says; `None` where it says nothing. A script that fails, or a status that is none, is Unknown.
    pub(super) fn judge(&self, object: &Value) -> Option<Verdict> {
        match self.run(object) {
            Ok(said) => said,
            Err(error) => {
                Some(Verdict::new(Status::Unknown, format!("its rule of health failed: {}", words(&error))))
            }
        }
    }

    fn run(&self, object: &Value) -> mlua::Result<Option<Verdict>> {
        // A table takes about ten times what its JSON does.
        let lua = interpreter(MEMORY + 10 * weight(object), self.clock)?;
        lua.globals().raw_set("obj", pushed(&lua, object)?)?;
        let chunk = lua.load(&self.script).set_name("=health.lua").set_mode(mlua::chunk::ChunkMode::Text);
        let table = match chunk.eval::<Word>()? {
            Word::Nil => return Ok(None),
            Word::Table(table) => table,
            other => {
                let kind = other.type_name();
                return Err(mlua::Error::runtime(format!("it returned a {kind} instead of a table")));
            }
        };
        let text = |field: &str| -> mlua::Result<Option<String>> {
            Ok(match table.raw_get::<Word>(field)? {
                Word::String(text) => Some(text.to_string_lossy()),
                Word::Nil => None,
                other => Some(other.to_string()?),
            })
        };
        let (status, message) = (text("status")?, text("message")?);
        if status.is_none() && message.is_none() {
            return Ok(None);
        }
        let message = cut(&message.unwrap_or_default());
        Ok(Some(match status.as_deref().and_then(Status::parse) {
            Some(status) => Verdict::new(status, message),
            None => Verdict::new(Status::Unknown, "its rule of health returned an invalid status"),
        }))
    }
}

/// Bytes of an object, roughly.
fn weight(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 8,
        Value::Array(items) => 8 + items.iter().map(weight).sum::<usize>(),
        Value::Object(fields) => {
            8 + fields.iter().map(|(name, field)| name.len() + 8 + weight(field)).sum::<usize>()
        }
        _ => 8,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn still() -> Duration {
        Duration::ZERO
    }

    /// A clock by which each look takes long.
    fn runs() -> Duration {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NOW: AtomicU64 = AtomicU64::new(0);
        Duration::from_millis(NOW.fetch_add(400, Ordering::Relaxed))
    }

    fn judge(script: &str, object: &Value) -> Option<Verdict> {
        Health::new(script, still).unwrap().judge(object)
    }

    fn fails(script: &str) -> String {
        let verdict = judge(script, &json!({})).unwrap();
        assert_eq!(verdict.status, Status::Unknown, "{script}");
        verdict.reason.into()
    }

    #[test]
    fn a_script_judges() {
        let script = r#"
            hs = {}
            if obj.status ~= nil then
              for i, condition in ipairs(obj.status.conditions) do
                if condition.type == "Ready" and condition.status == "False" then
                  hs.status = "Degraded"
                  hs.message = condition.message .. " " .. obj.metadata.generation
                  return hs
                end
              end
              hs.status = "Healthy"
              return hs
            end
            return hs"#;
        let with = |status: &str| {
            json!({"metadata": {"generation": 2}, "status": {"conditions": [
                {"type": "Ready", "status": status, "message": "no space", "reason": null}]}})
        };
        assert_eq!(judge(script, &with("False")), Some(Verdict::new(Status::Degraded, "no space 2")));
        assert_eq!(judge(script, &with("True")), Some(Verdict::healthy()));
        assert_eq!(judge(script, &json!({})), None);
        assert_eq!(judge("local x = 1", &json!({})), None);
    }

    #[test]
    fn what_is_no_verdict_is_unknown() {
        assert!(fails("return {status = 'Fine'}").contains("invalid status"));
        assert!(fails("return {message = 'x'}").contains("invalid status"));
        assert!(fails("return 'Healthy'").contains("instead of a table"));
        assert!(fails("return obj.a.b").contains("health.lua:1"));
        assert!(Health::new("return {", still).is_err());
        assert!(Health::new(&" ".repeat(LONGEST + 1), still).is_err());
    }

    #[test]
    fn a_script_is_alone_and_limited() {
        for script in [
            "return io.open('/etc/passwd')",
            "return require('os')",
            "return os.execute('true')",
            "return os.getenv('HOME')",
            "return load('return 1')()",
            "return dofile('x')",
            "return pcall(function() end)",
            "return setmetatable({}, {})",
            "return collectgarbage()",
            "return string.dump(function() end)",
            "return debug.getinfo(1)",
            "return coroutine.create(function() end)",
            "return os.time()",
            "return package.loaded",
        ] {
            fails(script);
        }
        assert!(fails("while true do end").contains("too long"));
        assert!(fails("local function f() return f() end return f()").contains("too long"));
        fails("local function f() return 1 + f() end return f()");
        assert!(fails("local s = 'x' while true do s = s .. s end").contains("memory"));
        assert!(fails("local t = {} while true do t[#t + 1] = {} end").contains("memory"));
        let huge = fails("return string.rep(string.rep('x', 1e5), 1e5)");
        assert!(huge.contains("memory") || huge.contains("too large"), "{huge}");
        assert!(fails("return string.rep('', 1e18)").contains("too often"));
        assert!(
            fails("local a, b = string.rep('a', 1e6), string.rep('a', 5e5) .. 'b' return a:find(b, 1, true)")
                .contains("too costly")
        );
        assert!(fails("local s = string.rep('(', 1e5) return s:match('%b()')").contains("too costly"));
        assert!(fails("local s = string.rep('a', 1e5) return s:match('.-.-.-.-b')").contains("too costly"));
        // Time is asked for in between, whatever an instruction costs.
        let slow = Health::new("for i = 1, 100000 do end return {status = 'Healthy'}", runs).unwrap();
        assert!(slow.judge(&json!({})).unwrap().reason.contains("too long"));
        // Nothing is left of the judgement before.
        let counts =
            Health::new("n = (n or 0) + 1 return {status = 'Healthy', message = tostring(n)}", still)
                .unwrap();
        for _ in 0..3 {
            assert_eq!(&*counts.judge(&json!({})).unwrap().reason, "1");
        }
    }

    #[test]
    fn what_lua_51_has() {
        let script = "return {status = 'Healthy', message = table.getn({1, 2}) .. unpack({'a'}) .. \
            os.time({year = '2026', month = '02', day = 3, hour = 4, min = 5, sec = 6})}";
        assert_eq!(&*judge(script, &json!({})).unwrap().reason, "2a1770091506");
    }
}
