//! The wire format of Protocol Buffers, as far as small flat messages need it: varints, 64-bit and 32-bit values, and
//! length-delimited fields. Groups, which proto3 does not have, are refused.
//!
//! # Invariants
//! Reading borrows from the input and allocates nothing.

/// Bytes that are not a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Malformed;

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    /// An integer or a truth value.
    Varint(u64),
    /// A 64-bit value, such as a double.
    Fixed64([u8; 8]),
    /// A 32-bit value.
    Fixed32([u8; 4]),
    /// A string, bytes or a message.
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    /// The value of a string or message field.
    ///
    /// # Errors
    /// The field has another type.
    pub(super) fn bytes(self) -> Result<&'a [u8], Malformed> {
        match self {
            Value::Bytes(bytes) => Ok(bytes),
            Value::Varint(_) | Value::Fixed64(_) | Value::Fixed32(_) => Err(Malformed),
        }
    }

    /// The value of a string field.
    ///
    /// # Errors
    /// The field has another type, or is not UTF-8.
    pub(super) fn text(self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed)
    }
}

/// The fields of a message, in order: numbers and values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The fields of these bytes.
    pub(super) fn of(bytes: &'a [u8]) -> Fields<'a> {
        Fields(bytes)
    }

    /// The next field; `None` at the end.
    ///
    /// # Errors
    /// The rest is not a field.
    pub(super) fn next(&mut self) -> Result<Option<(u32, Value<'a>)>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).map_err(|_| Malformed)?;
        if number == 0 {
            return Err(Malformed);
        }
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(self.fixed()?),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Fixed32(self.fixed()?),
            _ => return Err(Malformed),
        };
        Ok(Some((number, value)))
    }

    /// An integer of at most ten bytes with seven bits each, the lowest bits first.
    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut number = 0;
        for index in 0..10 {
            let [byte] = self.fixed::<1>()?;
            let bits = u64::from(byte & 0x7f);
            // Of the tenth byte, only the lowest bit belongs to a number of 64 bits.
            if index == 9 && bits > 1 {
                return Err(Malformed);
            }
            number |= bits << (7 * index);
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Malformed)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }
}

/// A message that is being written.
#[derive(Debug, Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    /// Adds an integer or a truth value. The default, 0, is not written.
    pub(super) fn varint(mut self, field: u32, number: u64) -> Writer {
        if number != 0 {
            self.number(u64::from(field) << 3);
            self.number(number);
        }
        self
    }

    /// Adds a double. The default, 0, is not written.
    pub(super) fn double(mut self, field: u32, number: f64) -> Writer {
        if number != 0.0 {
            self.number(u64::from(field) << 3 | 1);
            self.0.extend_from_slice(&number.to_le_bytes());
        }
        self
    }

    /// Adds a string or a message.
    pub(super) fn bytes(mut self, field: u32, bytes: &[u8]) -> Writer {
        self.number(u64::from(field) << 3 | 2);
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    /// The bytes of the message.
    pub(super) fn end(self) -> Vec<u8> {
        self.0
    }

    fn number(&mut self, mut number: u64) {
        while number > 0x7f {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        for number in [1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let bytes = Writer::default().varint(1, number).double(19, 2.5).bytes(2, b"ab").end();
            let mut fields = Fields::of(&bytes);
            assert_eq!(fields.next(), Ok(Some((1, Value::Varint(number)))));
            assert_eq!(fields.next(), Ok(Some((19, Value::Fixed64(2.5_f64.to_le_bytes())))));
            assert_eq!(fields.next(), Ok(Some((2, Value::Bytes(b"ab")))));
            assert_eq!(fields.next(), Ok(None));
        }
        assert_eq!(Writer::default().varint(1, 0).double(2, 0.0).end(), b"");
        assert_eq!(Writer::default().varint(2, 150).end(), [0x10, 0x96, 0x01]);
    }

    #[test]
    fn what_is_no_field_is_refused() {
        let over = [&[0x08][..], &[0xff; 9], &[0x02]].concat();
        let endless = [&[0x08][..], &[0x80; 11]].concat();
        for bytes in [
            &b"\x08"[..],
            b"\x0a\x05abcd",
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x00\x01",
            b"\x0b\x0c",
            b"\x09\x01",
            b"\x0d\x01",
            &over,
            &endless,
        ] {
            assert_eq!(Fields::of(bytes).next(), Err(Malformed), "{bytes:?}");
        }
    }
}
