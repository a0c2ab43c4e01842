//! CRC-32C (Castagnoli), as Google's APIs use it against damage on the way. No protection against anybody.

/// The polynomial 0x1EDC6F41 with its bits reversed (RFC 3720, 12.1).
const POLYNOMIAL: u32 = 0x82F6_3B78;

/// The checksum. Bit by bit: what is checked is a few hundred bytes long.
pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let mask = (crc & 1).wrapping_neg();
            crc = (crc >> 1) ^ (POLYNOMIAL & mask);
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3720, B.4, and the check value of the catalogue of CRC algorithms.
    #[test]
    fn published_checksums_come_out() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
        assert_eq!(crc32c(&[0xFF; 32]), 0x62A8_AB43);
        assert_eq!(crc32c(b""), 0);
    }
}
