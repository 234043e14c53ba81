//! Listings of a store with hostile names and pages: a listing is found whole or is an error, and whatever keys stand beside the
//! archive's files, each of these is found and nothing else passes for one.

use std::collections::BTreeSet;
use std::fmt::Write;

use bytes::Bytes;
use walkeep::archive::canned::CannedAnswer;
use walkeep::error::ErrorKind;
use walkeep_core::wal::{SegmentName, WalName};

use crate::requests::{check_shown, segments_listed};
use crate::stores;

/// As many as lie in one listing. After them, no answer comes.
const MOST_PAGES: usize = 8;
/// Longer than any error that quotes all that it may.
const MOST_SHOWN: usize = 2_000;

/// A page: its keys below the cluster's, and what continues it.
#[derive(Debug, Default)]
struct Page<'a> {
    keys: Vec<&'a str>,
    token: Option<&'a str>,
}

/// Panics if the bytes break a promise.
///
/// The first line is the kind of the store. Each other line is a key below that of the cluster, or a page's end: `>` and the token
/// that continues it.
pub fn hold(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.split('\n');
    let Some(store) = lines.next() else { return };
    let Some((url, settings)) = stores::of_kind(store) else { return };
    let mut pages = vec![Page::default()];
    for line in lines {
        let Some(page) = pages.last_mut() else { return };
        if let Some(token) = line.strip_prefix('>') {
            page.token = Some(token).filter(|token| !token.is_empty());
            pages.push(Page::default());
        } else {
            page.keys.push(line);
        }
    }
    pages.truncate(MOST_PAGES);
    let end = pages.iter().position(|page| page.token.is_none());
    let answers = pages.iter().map(|page| answer(store, page)).collect();
    let archive = stores::open(url, settings, answers);
    let listed = pages.iter().take(end.map_or(0, |end| end + 1)).flat_map(|page| &page.keys);
    let expected: BTreeSet<SegmentName> = listed.filter_map(|key| segment_under(key)).collect();
    match segments_listed(&archive) {
        Ok(found) => {
            assert!(end.is_some(), "a listing without an end is found whole: {pages:?}");
            assert_eq!(found, expected, "{pages:?}");
        }
        Err(error) => {
            let text = check_shown(&error, settings.iter().skip(1).map(|(_, value)| *value));
            assert!(text.chars().count() <= MOST_SHOWN, "{} characters", text.chars().count());
            assert!(!matches!(error.kind(), ErrorKind::Absent | ErrorKind::Conflict), "{text}");
            let tokens = pages.iter().filter_map(|page| page.token);
            let is_plain = |token: &str| token.bytes().all(|byte| byte.is_ascii_alphanumeric());
            let distinct: BTreeSet<&str> = tokens.clone().filter(|token| is_plain(token)).collect();
            let is_sound = end.is_some() && distinct.len() == tokens.count();
            assert!(expected.is_empty() || !is_sound, "{text}: {pages:?}");
        }
    }
}

/// Returns the segment whose key this is.
fn segment_under(key: &str) -> Option<SegmentName> {
    let (group, name) = key.strip_prefix("wal/")?.split_once('/')?;
    match name.parse() {
        Ok(WalName::Segment(segment)) if name.get(..16) == Some(group) => Some(segment),
        _ => None,
    }
}

fn answer(store: &str, page: &Page<'_>) -> CannedAnswer {
    let mut body = String::new();
    let token = page.token.map(escaped).unwrap_or_default();
    let keys = page.keys.iter().map(|key| escaped(key));
    // Writing into a text never fails.
    let _ = if store == "az" {
        let blobs: String = keys
            .map(|key| {
                format!(
                    "<Blob><Name>prefix/7/{key}</Name><Properties><Last-Modified>Fri, 02 Jan 2026 03:04:05 GMT</Last-Modified>\
                     <Content-Length>5</Content-Length><Content-Type>application/octet-stream</Content-Type><Etag>0x8</Etag>\
                     </Properties></Blob>"
                )
            })
            .collect();
        write!(
            body,
            "<EnumerationResults><Blobs>{blobs}</Blobs><NextMarker>{token}</NextMarker></EnumerationResults>"
        )
    } else {
        let contents: String = keys
            .map(|key| {
                format!(
                    "<Contents><Key>prefix/7/{key}</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified><Size>5</Size></Contents>"
                )
            })
            .collect();
        let goes_on = page.token.is_some();
        let next = if goes_on {
            format!("<NextContinuationToken>{token}</NextContinuationToken>")
        } else {
            String::new()
        };
        write!(
            body,
            "<ListBucketResult><IsTruncated>{goes_on}</IsTruncated>{next}{contents}</ListBucketResult>"
        )
    };
    let headers = vec![("content-type".to_owned(), "application/xml".to_owned())];
    CannedAnswer { status: 200, headers, body: Bytes::from(body) }
}

/// Returns the text as XML has it: what stands for something in it, and what it may not have, as a number.
fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut escaped, character| {
        if matches!(character, '&' | '<' | '>' | '\'' | '"') || character.is_control() {
            let _ = write!(escaped, "&#{};", u32::from(character));
        } else {
            escaped.push(character);
        }
        escaped
    })
}
