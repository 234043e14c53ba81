//! `global/pg_control` (`ControlFileData` in `catalog/pg_control.h`): system identifier u64 at 0, version of the
//! file's layout u32 at 8, catalog version u32 at 12, native byte order.

use super::SystemIdentifier;

/// The bytes are not those of a `pg_control` that this machine can read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlFileError {
    /// Too few bytes.
    #[error("it has only {0} bytes")]
    Short(usize),
    /// The layout's version is not a plausible one.
    #[error("it was written on a machine of another byte order, or is damaged (layout version {0})")]
    Version(u32),
    /// The system identifier is 0.
    #[error("it names no system identifier")]
    NoSystem,
}

/// Reads the system identifier from the beginning of `pg_control`.
///
/// The file's checksum is left alone: a running server rewrites the file at any time, so a torn read is no damage,
/// and the identifier at its very beginning never changes.
pub fn system_identifier_of_control_file(bytes: &[u8]) -> Result<SystemIdentifier, ControlFileError> {
    let Some((identifier, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(ControlFileError::Short(bytes.len()));
    };
    let Some((version, _)) = rest.split_first_chunk::<4>() else {
        return Err(ControlFileError::Short(bytes.len()));
    };
    // 9.3 has 937, version 18 has 1800; the other byte order shows as a multiple of 65536.
    let version = u32::from_ne_bytes(*version);
    if !(900..65_536).contains(&version) {
        return Err(ControlFileError::Version(version));
    }
    SystemIdentifier::new(u64::from_ne_bytes(*identifier)).ok_or(ControlFileError::NoSystem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control(identifier: u64, version: u32) -> Vec<u8> {
        [&identifier.to_ne_bytes()[..], &version.to_ne_bytes(), &[0; 4]].concat()
    }

    #[test]
    fn the_identifier_is_at_the_beginning() {
        let identifier =
            system_identifier_of_control_file(&control(7_381_092_445_103_374_871, 1300)).unwrap();
        assert_eq!(identifier.to_string(), "7381092445103374871");
    }

    #[test]
    fn what_is_no_control_file_is_refused() {
        let read = |bytes: &[u8]| system_identifier_of_control_file(bytes).unwrap_err();
        assert_eq!(read(b""), ControlFileError::Short(0));
        assert_eq!(read(&control(7, 1300)[..11]), ControlFileError::Short(11));
        assert_eq!(read(&control(7, 1300u32.swap_bytes())), ControlFileError::Version(1300u32.swap_bytes()));
        assert_eq!(read(&[0; 8192]), ControlFileError::Version(0));
        assert_eq!(read(&control(0, 1300)), ControlFileError::NoSystem);
    }
}
