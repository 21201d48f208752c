//! A look at a pack as it comes in, before libgit2 gets it: libgit2 verifies every object, and makes whatever size a
//! pack claims. A delta of a few bytes can claim gigabytes (each copy instruction yields 16 MiB), and a stream of zeros
//! inflates a thousandfold.

use flate2::{Decompress, FlushDecompress, Status};

use crate::error::{Code, Error, Result};

/// Largest object that is made from a delta, and largest base of one: both are held in memory. Git itself makes no
/// deltas of files beyond 512 MiB; larger files that come whole are streamed.
const MAX_DELTA: u64 = 256 << 20;
/// Bytes of all objects of a pack once unpacked: a minute of hashing.
const MAX_TOTAL: u64 = 16 << 30;
/// Objects of a pack; libgit2 keeps about 100 bytes for each. A commit of Chromium has 500,000.
const MAX_OBJECTS: u32 = 2_000_000;
/// The two sizes with which a delta begins.
const SIZES: usize = 20;

/// Where in the pack the next byte stands.
enum At {
    /// `PACK`, version, number of objects.
    Header(Vec<u8>),
    /// Kind and size of an object.
    Object {
        kind: Option<u8>,
        size: u64,
        shift: u32,
    },
    /// How far before it the base of a delta stands.
    Offset,
    /// The name of the base of a delta.
    Name(u8),
    Data,
    /// Its checksum, which is libgit2's to hold against the rest.
    Trailer,
}

/// Follows a pack.
pub(super) struct Inspector {
    at: At,
    left: u32,
    total: u64,
    /// What is left of the object's size.
    size: u64,
    /// First bytes of a delta; `None` for other objects.
    sizes: Option<Vec<u8>>,
    inflate: Decompress,
}

fn malformed(what: &str) -> Error {
    Error::new(Code::RepositoryCorrupt, format!("bad pack: {what}"))
}

fn large(what: &str, bytes: u64, limit: u64) -> Error {
    Error::new(
        Code::SourceTooLarge,
        format!("{what} of {} MiB; the limit is {} MiB", bytes >> 20, limit >> 20),
    )
}

impl Inspector {
    /// At the beginning of a pack.
    pub(super) fn new() -> Self {
        Self {
            at: At::Header(Vec::with_capacity(12)),
            left: 0,
            total: 0,
            size: 0,
            sizes: None,
            inflate: Decompress::new(true),
        }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// `SourceTooLarge` for what would be beyond the limits, `RepositoryCorrupt` for what is no pack.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> Result<()> {
        let mut scratch = [0; 16 << 10];
        while let Some((&byte, rest)) = bytes.split_first() {
            match &mut self.at {
                At::Trailer => return Ok(()),
                At::Data => {
                    let used = self.unpack(bytes, &mut scratch)?;
                    bytes = &bytes[used..];
                    continue;
                }
                At::Header(header) => {
                    header.push(byte);
                    if header.len() == 12 {
                        let header = std::mem::take(header);
                        self.begin(&header)?;
                    }
                }
                At::Object { kind, size, shift } => {
                    let known = *kind.get_or_insert((byte >> 4) & 7);
                    let (value, width) = if *shift == 0 { (byte & 15, 4) } else { (byte & 127, 7) };
                    *size |= u64::from(value)
                        .checked_shl(*shift)
                        .filter(|_| *shift < 60)
                        .ok_or_else(|| malformed("a size"))?;
                    *shift += width;
                    if byte & 128 == 0 {
                        let size = *size;
                        self.object(known, size)?;
                    }
                }
                At::Offset if byte & 128 == 0 => self.at = At::Data,
                At::Offset => {}
                At::Name(19) => self.at = At::Data,
                At::Name(read) => *read += 1,
            }
            bytes = rest;
        }
        Ok(())
    }

    fn begin(&mut self, header: &[u8]) -> Result<()> {
        let number =
            |at: usize| header[at..at + 4].iter().fold(0u32, |number, byte| number << 8 | u32::from(*byte));
        if !header.starts_with(b"PACK") || !matches!(number(4), 2 | 3) {
            return Err(malformed("it does not begin as one"));
        }
        self.left = number(8);
        if self.left > MAX_OBJECTS {
            let why = format!("a pack of {} objects; the limit is {MAX_OBJECTS}", self.left);
            return Err(Error::new(Code::SourceTooLarge, why));
        }
        self.next();
        Ok(())
    }

    fn next(&mut self) {
        self.at = match self.left {
            0 => At::Trailer,
            _ => At::Object { kind: None, size: 0, shift: 0 },
        };
        self.left = self.left.saturating_sub(1);
    }

    fn object(&mut self, kind: u8, size: u64) -> Result<()> {
        let is_delta = matches!(kind, 6 | 7);
        self.at = match kind {
            1..=4 => At::Data,
            6 => At::Offset,
            7 => At::Name(0),
            _ => return Err(malformed("an object of no known kind")),
        };
        if is_delta && size > MAX_DELTA {
            return Err(large("a delta", size, MAX_DELTA));
        }
        self.count(size)?;
        self.size = size;
        self.sizes = is_delta.then(Vec::new);
        self.inflate.reset(true);
        Ok(())
    }

    fn count(&mut self, size: u64) -> Result<()> {
        self.total = self.total.saturating_add(size);
        if self.total > MAX_TOTAL {
            return Err(large("a pack whose objects are", self.total, MAX_TOTAL));
        }
        Ok(())
    }

    /// Inflates what there is of an object; returns how many bytes it took.
    fn unpack(&mut self, bytes: &[u8], scratch: &mut [u8]) -> Result<usize> {
        let (read, written) = (self.inflate.total_in(), self.inflate.total_out());
        let status = self.inflate.decompress(bytes, scratch, FlushDecompress::None);
        let status = status.map_err(|error| malformed(&error.to_string()))?;
        let advance = |from: u64, to: u64| usize::try_from(to - from).unwrap_or(usize::MAX);
        let used = advance(read, self.inflate.total_in());
        let made = advance(written, self.inflate.total_out());
        self.size =
            self.size.checked_sub(made as u64).ok_or_else(|| malformed("an object larger than it says"))?;
        if let Some(sizes) = &mut self.sizes {
            sizes.extend(scratch[..made].iter().take(SIZES - sizes.len()));
        }
        if status == Status::StreamEnd {
            if self.size > 0 {
                return Err(malformed("an object smaller than it says"));
            }
            if let Some(sizes) = self.sizes.take() {
                self.delta(&sizes)?;
            }
            self.next();
        } else if used == 0 && made == 0 {
            return Err(malformed("an object that does not end"));
        }
        Ok(used)
    }

    /// Reads the sizes of its base and of its result.
    fn delta(&mut self, begin: &[u8]) -> Result<()> {
        let mut bytes = begin.iter();
        let mut number = || {
            let (mut number, mut shift) = (0u64, 0);
            loop {
                let byte =
                    bytes.next().filter(|_| shift < 63).ok_or_else(|| malformed("a delta without sizes"))?;
                number |= u64::from(byte & 127) << shift;
                shift += 7;
                if byte & 128 == 0 {
                    return Ok(number);
                }
            }
        };
        let (base, result) = (number()?, number()?);
        if base.max(result) > MAX_DELTA {
            return Err(large("an object made from a delta", base.max(result), MAX_DELTA));
        }
        self.count(result)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn object(pack: &mut Vec<u8>, kind: u8, mut size: usize, base: &[u8], data: &[u8]) {
        let mut first = kind << 4 | u8::try_from(size & 15).unwrap();
        size >>= 4;
        while size > 0 {
            pack.push(first | 128);
            first = u8::try_from(size & 127).unwrap();
            size >>= 7;
        }
        pack.push(first);
        pack.extend_from_slice(base);
        let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(data).unwrap();
        pack.extend(packed.finish().unwrap());
    }

    fn header(objects: u32) -> Vec<u8> {
        [b"PACK".as_slice(), &2u32.to_be_bytes(), &objects.to_be_bytes()].concat()
    }

    /// In pieces of every size, the same is said.
    fn check(pack: &[u8], wanted: Result<(), &str>) {
        for piece in [1, 7, 4096, pack.len()] {
            let mut inspector = Inspector::new();
            let found = pack.chunks(piece).try_for_each(|bytes| inspector.take(bytes));
            match (&found, wanted) {
                (Ok(()), Ok(())) => assert!(matches!(inspector.at, At::Trailer)),
                (Err(error), Err(why)) => assert!(error.to_string().contains(why), "{error}"),
                _ => panic!("{found:?} instead of {wanted:?}"),
            }
        }
    }

    #[test]
    fn packs() {
        let text = b"text ".repeat(5000);
        let mut good = header(3);
        object(&mut good, 3, text.len(), b"", &text);
        object(&mut good, 6, 4, &[0x81, 0x02], &[5, 5, 0x90, 5]);
        object(&mut good, 7, 4, &[7; 20], &[5, 5, 0x90, 5]);
        good.extend([9; 20]);
        check(&good, Ok(()));
        check(&[header(0), vec![9; 20]].concat(), Ok(()));
        check(&header(3_000_000), Err("3000000 objects"));
        check(b"PACKAGES OF 12 bytes", Err("does not begin"));
        let mut lies = header(1);
        object(&mut lies, 3, 4, b"", &text);
        check(&lies, Err("larger than it says"));
        let mut lies = header(1);
        object(&mut lies, 3, 4, b"", b"abc");
        check(&lies, Err("smaller than it says"));
        let mut bomb = header(1);
        // 1 GiB of a base of 5 bytes.
        object(&mut bomb, 7, 8, &[7; 20], &[5, 0x80, 0x80, 0x80, 0x80, 4, 0x90, 5]);
        check(&bomb, Err("made from a delta of 1024 MiB"));
        let mut many = header(70);
        for _ in 0..70 {
            // 240 MiB each.
            object(&mut many, 7, 7, &[7; 20], &[5, 0x80, 0x80, 0x80, 0x78, 0x90, 5]);
        }
        check(&many, Err("a pack whose objects are"));
    }
}
