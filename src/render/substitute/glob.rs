//! Shell patterns at the beginning of a text, as Go's path.Match reads them, but for `*`, which also takes `/`.

/// Comparisons that all patterns of one object may take; it bounds what a hostile pattern costs to some 0.1 s.
const MAX_STEPS: u64 = 20_000_000;

/// How many were taken.
#[derive(Default)]
pub(super) struct Steps(u64);

/// Why a pattern ended early.
enum Stop {
    Malformed,
    Beyond,
}

/// The text without the shortest or longest beginning that matches; a malformed pattern takes nothing away.
pub(super) fn without_prefix<'a>(
    text: &'a [u8],
    pattern: &[u8],
    longest: bool,
    steps: &mut Steps,
) -> Result<&'a [u8], String> {
    let mut found = 0;
    for end in (1..=text.len()).rev() {
        match matches(pattern, &text[..end], steps) {
            Ok(true) => found = end,
            Ok(false) => continue,
            Err(Stop::Malformed) => return Ok(text),
            Err(Stop::Beyond) => return Err("its pattern takes too long on a value of this size".into()),
        }
        if longest {
            break;
        }
    }
    Ok(&text[found..])
}

fn matches(mut pattern: &[u8], mut name: &[u8], steps: &mut Steps) -> Result<bool, Stop> {
    'pattern: while !pattern.is_empty() {
        let (star, chunk, rest) = next_chunk(pattern);
        pattern = rest;
        if star && chunk.is_empty() {
            return Ok(true);
        }
        if let Some(left) = chunk_matches(chunk, name, steps)?
            && (left.is_empty() || !pattern.is_empty())
        {
            name = left;
            continue;
        }
        if star {
            for skipped in 1..=name.len() {
                let Some(left) = chunk_matches(chunk, &name[skipped..], steps)? else { continue };
                if pattern.is_empty() && !left.is_empty() {
                    continue;
                }
                name = left;
                continue 'pattern;
            }
        }
        return Ok(false);
    }
    Ok(name.is_empty())
}

/// Whether stars lead, what stands up to the next star, and the rest.
fn next_chunk(pattern: &[u8]) -> (bool, &[u8], &[u8]) {
    let stars = pattern.iter().take_while(|byte| **byte == b'*').count();
    let pattern = &pattern[stars..];
    let mut in_class = false;
    let mut at = 0;
    while at < pattern.len() {
        match pattern[at] {
            b'\\' if at + 1 < pattern.len() => at += 1,
            b'[' => in_class = true,
            b']' => in_class = false,
            b'*' if !in_class => break,
            _ => {}
        }
        at += 1;
    }
    (stars > 0, &pattern[..at], &pattern[at..])
}

/// What is left behind the chunk, where it matches the beginning.
fn chunk_matches<'a>(
    mut chunk: &[u8],
    mut text: &'a [u8],
    steps: &mut Steps,
) -> Result<Option<&'a [u8]>, Stop> {
    while let Some(sign) = chunk.first() {
        steps.0 += 1;
        if steps.0 > MAX_STEPS {
            return Err(Stop::Beyond);
        }
        if text.is_empty() {
            return Ok(None);
        }
        match sign {
            b'[' => {
                let (c, width) = character(text);
                text = &text[width..];
                chunk = &chunk[1..];
                let negated = chunk.first() == Some(&b'^');
                chunk = &chunk[usize::from(negated)..];
                let (mut hit, mut ranges) = (false, 0);
                loop {
                    if chunk.first() == Some(&b']') && ranges > 0 {
                        chunk = &chunk[1..];
                        break;
                    }
                    let (low, rest) = bound(chunk)?;
                    let (high, rest) = if rest[0] == b'-' { bound(&rest[1..])? } else { (low, rest) };
                    chunk = rest;
                    hit |= (low..=high).contains(&c);
                    ranges += 1;
                }
                if hit == negated {
                    return Ok(None);
                }
                continue;
            }
            b'?' => {
                text = &text[character(text).1..];
                chunk = &chunk[1..];
                continue;
            }
            b'\\' => chunk = &chunk[1..],
            _ => {}
        }
        let Some(sign) = chunk.first() else { return Err(Stop::Malformed) };
        if *sign != text[0] {
            return Ok(None);
        }
        (text, chunk) = (&text[1..], &chunk[1..]);
    }
    Ok(Some(text))
}

/// One end of a range in a class; something must follow it.
fn bound(chunk: &[u8]) -> Result<(u32, &[u8]), Stop> {
    if matches!(chunk.first(), None | Some(b'-' | b']')) {
        return Err(Stop::Malformed);
    }
    let chunk = chunk.strip_prefix(b"\\").unwrap_or(chunk);
    if chunk.is_empty() {
        return Err(Stop::Malformed);
    }
    let (c, width) = character(chunk);
    let rest = &chunk[width..];
    if rest.is_empty() || (c == 0xfffd && width == 1) { Err(Stop::Malformed) } else { Ok((c, rest)) }
}

/// The first character; a byte that is none counts as U+FFFD.
fn character(text: &[u8]) -> (u32, usize) {
    let found = (1..=text.len().min(4)).find_map(|width| std::str::from_utf8(&text[..width]).ok());
    found.and_then(|text| text.chars().next()).map_or((0xfffd, 1), |c| (u32::from(c), c.len_utf8()))
}
