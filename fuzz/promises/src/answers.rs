//! Answers of a store: whatever their bytes, an error is a bounded line without secrets, and only the answer that proves
//! something counts as its proof.

use bytes::Bytes;
use walkeep::archive::canned::CannedAnswer;
use walkeep::error::ErrorKind;

use crate::requests::{Found, QUESTIONS, Question, ask, check_shown};
use crate::stores;

/// What ends one answer and begins the next.
const NEXT: &[u8] = b"\n\0\n";
/// As many as any of the questions may need. After them, no answer comes.
const MOST_ANSWERS: usize = 4;
/// Longer than any error that quotes all that it may.
const MOST_SHOWN: usize = 2_000;

/// Panics if the bytes break a promise.
///
/// They begin with the kind of the store and the question, as `s3 fetch`. Each answer has a line with its status, its headers, an
/// empty line, and its body.
pub fn hold(data: &[u8]) {
    let Some((asked, rest)) = line(data) else { return };
    let Some((store, question)) = asked.split_once(' ') else { return };
    let Some((url, settings)) = stores::of_kind(store) else { return };
    let Some((_, question)) = QUESTIONS.iter().find(|(name, _)| *name == question) else { return };
    let answers: Vec<CannedAnswer> = split(rest).into_iter().take(MOST_ANSWERS).filter_map(answer).collect();
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();

    let archive = stores::open(url, settings, answers);
    let is_secret = |name: &str| ["token", "key"].iter().any(|ending| name.ends_with(ending));
    let secrets = settings.iter().filter(|(name, _)| is_secret(name)).map(|(_, secret)| *secret);
    let any = |wanted: &[u16]| statuses.iter().any(|status| wanted.contains(status));
    match ask(&archive, *question) {
        Err(error) => {
            let text = check_shown(&error, secrets);
            assert!(text.chars().count() <= MOST_SHOWN, "{} characters", text.chars().count());
            assert!(error.kind() != ErrorKind::Absent || any(&[404]), "absent after {statuses:?}");
            assert!(error.kind() != ErrorKind::Conflict);
        }
        // Creating needs no name, and a question whether one is taken need not be asked.
        Ok(Found::Unknown) => {}
        Ok(Found::Nothing) if *question == Question::Taken => {}
        Ok(Found::Nothing) => assert!(any(&[404]), "nothing after {statuses:?}"),
        // S3 and Google answer 412 to an unmet condition; Azure may say it in a code, with any status.
        Ok(Found::Taken) => assert!(statuses.iter().any(|status| *status >= 300), "taken after {statuses:?}"),
        Ok(Found::Something) => {
            assert!(statuses.iter().any(|status| (200..300).contains(status)), "success after {statuses:?}");
        }
        Ok(Found::Gone(gone)) => {
            assert!(gone.iter().all(|index| *index < 3) && gone.windows(2).all(|pair| pair[0] < pair[1]));
            let answered = statuses.iter().any(|status| (200..300).contains(status) || *status == 404);
            assert!(answered, "deleted after {statuses:?}");
        }
    }
}

/// Splits off a line of text.
fn line(data: &[u8]) -> Option<(&str, &[u8])> {
    let end = data.iter().position(|byte| *byte == b'\n')?;
    Some((std::str::from_utf8(&data[..end]).ok()?, &data[end + 1..]))
}

fn split(mut data: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    while let Some(at) = data.windows(NEXT.len()).position(|window| window == NEXT) {
        parts.push(&data[..at]);
        data = &data[at + NEXT.len()..];
    }
    parts.push(data);
    parts
}

fn answer(data: &[u8]) -> Option<CannedAnswer> {
    let (status, mut rest) = line(data)?;
    let mut headers = Vec::new();
    while let Some((header, after)) = line(rest) {
        rest = after;
        let Some((name, value)) = header.split_once(": ") else { break };
        headers.push((name.to_owned(), value.to_owned()));
    }
    Some(CannedAnswer { status: status.parse().ok()?, headers, body: Bytes::copy_from_slice(rest) })
}
