//! How states are written: whole numbers as LEB128, signed ones zigzag first, text with its length before it.

use datafusion::common::{Result, exec_datafusion_err};

pub(super) fn put_number(to: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        to.push(n as u8 | 0x80);
        n >>= 7;
    }
    to.push(n as u8);
}

pub(super) fn put_signed(to: &mut Vec<u8>, n: i64) {
    put_number(to, ((n << 1) ^ (n >> 63)) as u64);
}

pub(super) fn put_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    put_number(to, bytes.len() as u64);
    to.extend_from_slice(bytes);
}

/// Reads what the functions above wrote.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// `what` is whose state it is, for errors.
    pub(super) fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Reader { what, rest: bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or_else(|| self.damaged())?;
        self.rest = rest;
        Ok(head)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| self.damaged())
    }

    pub(super) fn byte(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn number(&mut self) -> Result<u64> {
        let mut n = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            n |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(n);
            }
        }
        Err(self.damaged())
    }

    pub(super) fn signed(&mut self) -> Result<i64> {
        let n = self.number()?;
        Ok((n >> 1) as i64 ^ -((n & 1) as i64))
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8]> {
        let len = self.number()?;
        self.take(usize::try_from(len).map_err(|_| self.damaged())?)
    }

    pub(super) fn text(&mut self) -> Result<&'a str> {
        let bytes = self.bytes()?;
        std::str::from_utf8(bytes).map_err(|_| self.damaged())
    }

    pub(super) fn damaged(&self) -> datafusion::error::DataFusionError {
        exec_datafusion_err!("a state of {} is damaged or of another format", self.what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_and_a_cut_is_seen() {
        let mut bytes = Vec::new();
        let numbers = [0, 1, 127, 128, 1 << 40, u64::MAX];
        let signed = [0, -1, 1, i64::MIN, i64::MAX];
        numbers.iter().for_each(|n| put_number(&mut bytes, *n));
        signed.iter().for_each(|n| put_signed(&mut bytes, *n));
        put_bytes(&mut bytes, "ż".as_bytes());
        let mut r = Reader::new("test", &bytes);
        numbers.iter().for_each(|n| assert_eq!(r.number().unwrap(), *n));
        signed.iter().for_each(|n| assert_eq!(r.signed().unwrap(), *n));
        assert_eq!(r.text().unwrap(), "ż");
        assert!(r.is_empty());
        let mut cut = Reader::new("test", &[0x85]);
        assert!(cut.number().unwrap_err().to_string().contains("a state of test is damaged"));
    }
}
