//! The encoding of protocol buffers, as far as TensorBoard's messages need it, and the records that hold them.
//!
//! A message is a list of fields: a key (number and kind) and a value. Those that hold messages or texts have a length in
//! front. A file of events is a list of records: length, checksum of the length, message, checksum of the message.

/// A message under construction.
#[derive(Debug, Clone, Default)]
pub(super) struct Message(Vec<u8>);

impl Message {
    pub fn new() -> Message {
        Message::default()
    }

    /// A whole number, or one of an enumeration.
    pub fn int(mut self, field: u32, value: u64) -> Message {
        self.key(field, 0);
        self.varint(value);
        self
    }

    pub fn double(mut self, field: u32, value: f64) -> Message {
        self.key(field, 1);
        self.0.extend(value.to_le_bytes());
        self
    }

    pub fn float(mut self, field: u32, value: f32) -> Message {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    pub fn doubles(self, field: u32, values: &[f64]) -> Message {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.bytes(field, &bytes)
    }

    /// Bytes, or a text in UTF-8.
    pub fn bytes(mut self, field: u32, value: impl AsRef<[u8]>) -> Message {
        let value = value.as_ref();
        self.key(field, 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    pub fn message(self, field: u32, value: Message) -> Message {
        self.bytes(field, value.0)
    }

    /// The message as a record of an event file.
    pub fn record(&self) -> Vec<u8> {
        let length = (self.0.len() as u64).to_le_bytes();
        let mut record = Vec::with_capacity(self.0.len() + 16);
        record.extend(length);
        record.extend(masked(crc32c(&length)).to_le_bytes());
        record.extend(&self.0);
        record.extend(masked(crc32c(&self.0)).to_le_bytes());
        record
    }

    fn key(&mut self, field: u32, kind: u32) {
        self.varint(u64::from(field << 3 | kind));
    }

    /// Seven bits a byte, the lowest first; the top bit says that more come.
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// Checksums of data that hold checksums are changed, so that they do not look like their own.
fn masked(checksum: u32) -> u32 {
    checksum.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The cyclic redundancy check by Castagnoli's polynomial, lowest bit first (RFC 3720, section 12.1).
pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let (mut table, mut byte) = ([0; 256], 0);
        while byte < 256 {
            let (mut rest, mut bit) = (byte as u32, 0);
            while bit < 8 {
                rest = if rest & 1 == 1 { rest >> 1 ^ 0x82f6_3b78 } else { rest >> 1 };
                bit += 1;
            }
            table[byte] = rest;
            byte += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |rest: u32, &byte| rest >> 8 ^ TABLE[(rest as u8 ^ byte) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_rfc() {
        // RFC 3720, appendix B.4.
        let ascending: Vec<u8> = (0..32).collect();
        assert_eq!(
            [crc32c(&[0; 32]), crc32c(&[0xff; 32]), crc32c(&ascending)],
            [0x8a91_36aa, 0x62a8_ab43, 0x46dd_794e]
        );
    }

    #[test]
    fn fields_have_the_bytes_of_the_specification() {
        // The two examples of "Encoding" in the documentation of protocol buffers.
        assert_eq!(Message::new().int(1, 150).0, [0x08, 0x96, 0x01]);
        assert_eq!(Message::new().bytes(2, "testing").0, [0x12, 7, b't', b'e', b's', b't', b'i', b'n', b'g']);
        assert_eq!(Message::new().message(3, Message::new().int(1, 150)).0, [0x1a, 3, 0x08, 0x96, 0x01]);
    }
}
