//! Files with other modification times, and texts without the ages that depend on them.

use std::{
    fs::{self, File},
    path::Path,
    time::SystemTime,
};

use jiff::Timestamp;

use super::forged::resealed;

/// Sets the modification time of a file, such as `2001-02-03T04:05:06Z`.
pub fn set_time(path: &Path, moment: &str) {
    let moment: Timestamp = moment.parse().unwrap();
    File::options().write(true).open(path).unwrap().set_modified(SystemTime::from(moment)).unwrap();
}

/// Sets the modification time of an archived file, and the archiving time in its header.
pub fn set_archived(path: &Path, moment: &str) {
    let archived = fs::read(path).unwrap();
    let header = String::from_utf8_lossy(&archived[..1024]).into_owned();
    let key = "\"archived_at\":\"";
    let (_, rest) = header.split_once(key).unwrap();
    let before = rest.split('"').next().unwrap();
    if before != moment {
        fs::write(path, resealed(&archived, &format!("{key}{before}"), &format!("{key}{moment}"))).unwrap();
    }
    set_time(path, moment);
}

/// Replaces ages such as `3d 4h` in a text by `AGE`.
pub fn without_ages(text: &str) -> String {
    text.split_inclusive('\n').map(line_without_ages).collect()
}

fn line_without_ages(line: &str) -> String {
    let is_age = |word: &str| {
        let digits = word.trim_end().trim_end_matches(['d', 'h', 'm', 's']);
        word.trim_end().len() == digits.len() + 1
            && !digits.is_empty()
            && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    let mut words: Vec<String> = Vec::new();
    for word in line.split(' ') {
        let after = &word[word.trim_end().len()..];
        match words.last_mut() {
            Some(last) if is_age(word) && last == "AGE" => last.push_str(after),
            _ if is_age(word) => words.push(format!("AGE{after}")),
            _ => words.push(word.to_owned()),
        }
    }
    words.join(" ")
}
