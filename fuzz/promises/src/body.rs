//! Bodies under a header that is true of them: whatever they are, decoding ends, hands out no more than the header promises,
//! and succeeds for the one content that the header names, on one thread as on two.

use std::io::{self, Write};

use sha2::{Digest, Sha256};
use walkeep_core::frame::{Archived, FrameError};

/// Panics if the bytes break a promise.
pub fn hold(data: &[u8]) {
    let [kind, size @ ..] = data else { return };
    let Some((size, body)) = size.split_first_chunk::<3>() else { return };
    let codec = if kind & 1 == 0 { "zstd" } else { "none" };
    let (name, size) = match kind & 2 {
        0 => ("00000002.history", u64::from(u32::from_le_bytes([size[0], size[1], size[2], 0])).min(1 << 20)),
        _ => ("000000010000000000000001", 1 << 20),
    };
    let mut content = Content { bytes: Vec::new(), most: size };
    let first = decode(name, codec, size, [0; 32], body, &mut content, true);
    assert!(matches!(first, Err(FrameError::Damaged(_))), "BLAKE3 of zeros: {first:?}");
    // The bytes are what they are: under their own digest they are served if there are as many as promised.
    let digest = *blake3::hash(&content.bytes).as_bytes();
    for helped in [true, false] {
        let mut again = Content { bytes: Vec::new(), most: size };
        match decode(name, codec, size, digest, body, &mut again, helped) {
            Ok(()) => assert!(again.bytes == content.bytes && content.bytes.len() as u64 == size),
            Err(FrameError::Damaged(_)) => {
                assert!(!whole(codec, body, size), "{} bytes of {size} are refused", content.bytes.len());
            }
            Err(other) => panic!("{other:?}"),
        }
    }
}

/// Whether the body is certainly what the header promises, by what is simplest to tell.
fn whole(codec: &str, body: &[u8], size: u64) -> bool {
    codec == "none" && body.len() as u64 == size
}

fn decode(
    name: &str,
    codec: &str,
    size: u64,
    blake3: [u8; 32],
    body: &[u8],
    content: &mut Content,
    helped: bool,
) -> Result<(), FrameError> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let sha256 = hex(&Sha256::digest(body));
    let json = format!(
        "{{\"format\":1,\"name\":\"{name}\",\"original_size\":{size},\"blake3\":\"{}\",\"codec\":\"{codec}\",\
         \"encryption\":\"none\",\"body_size\":{},\"sha256\":\"{sha256}\",\"system_identifier\":\"7\",\
         \"archived_at\":\"2026-01-02T03:04:05Z\",\"walkeep\":\"0\"}}\n",
        hex(&blake3),
        body.len()
    );
    let mut file = 0x184D_2A57_u32.to_le_bytes().to_vec();
    file.extend(u32::try_from(json.len() + 65).unwrap_or_default().to_le_bytes());
    file.extend(json.into_bytes());
    let seal = hex(&Sha256::digest(&file));
    file.extend(format!("{seal}\n").into_bytes());
    file.extend(body);
    let archived = match Archived::open(file.as_slice(), file.len() as u64) {
        Ok(archived) => archived,
        Err(error) => panic!("the header is sound: {error}"),
    };
    let archived = if helped { archived } else { archived.on_one_thread() };
    archived.decode(content).map(drop)
}

/// What has been handed out, which is never more than was promised.
struct Content {
    bytes: Vec<u8>,
    most: u64,
}

impl Write for Content {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(part);
        assert!(self.bytes.len() as u64 <= self.most, "{} bytes of {}", self.bytes.len(), self.most);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
