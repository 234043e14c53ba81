//! "List Objects" with `list-type=2`: in the order of the names, by pages.

use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use http::{HeaderValue, Response, header};
use http_body_util::Full;
use jiff::Timestamp;

use super::{Answer, etag, generation, object};

/// Parameters of the request, as far as they are known here.
#[derive(Default)]
struct Asked {
    prefix: String,
    delimiter: String,
    after: String,
    max_keys: Option<usize>,
    is_second_version: bool,
}

impl Asked {
    fn of(query: &str) -> Self {
        let mut asked = Self::default();
        for (name, value) in reqwest::Url::parse(&format!("http://store/?{query}")).unwrap().query_pairs() {
            match &*name {
                "prefix" => asked.prefix = value.into_owned(),
                "delimiter" => asked.delimiter = value.into_owned(),
                "start-after" => asked.after = asked.after.max(value.into_owned()),
                "continuation-token" => {
                    let last = BASE64_URL_SAFE_NO_PAD.decode(&*value).unwrap();
                    asked.after = asked.after.max(String::from_utf8(last).unwrap());
                }
                "max-keys" => asked.max_keys = Some(value.parse().unwrap()),
                "list-type" => asked.is_second_version = value == "2",
                other => panic!("the stand-in does not know {other}"),
            }
        }
        assert!(asked.is_second_version, "the stand-in knows list-type=2 only: {query}");
        asked
    }

    /// Returns the prefix that a name is listed under, if the delimiter divides it.
    fn common_prefix<'a>(&self, key: &'a str) -> Option<&'a str> {
        let rest = key.strip_prefix(&self.prefix)?;
        let end = rest.find(&self.delimiter).filter(|_| !self.delimiter.is_empty())?;
        Some(&key[..self.prefix.len() + end + self.delimiter.len()])
    }
}

/// Answers a request for the names in the bucket, at most `page` at once.
pub(super) fn of(directory: &Path, bucket: &str, query: &str, page: usize) -> Answer {
    let asked = Asked::of(query);
    let page = asked.max_keys.unwrap_or(page).min(page);
    let mut names = BTreeSet::new();
    for key in keys(directory) {
        if key.starts_with(&asked.prefix) {
            names.insert(asked.common_prefix(&key).unwrap_or(&key).to_owned());
        }
    }
    let later = names.into_iter().filter(|name| *name > asked.after);
    let mut shown: Vec<_> = later.take(page + 1).collect();
    let goes_on = shown.len() > page;
    shown.truncate(page);

    let mut document = format!(
        "<?xml version='1.0' encoding='UTF-8'?><ListBucketResult xmlns='http://doc.s3.amazonaws.com/2006-03-01'>\
         <Name>{bucket}</Name><Prefix>{}</Prefix><KeyCount>{}</KeyCount><IsTruncated>{goes_on}</IsTruncated>",
        escaped(&asked.prefix),
        shown.len()
    );
    if let Some(last) = shown.last().filter(|_| goes_on) {
        let token = BASE64_URL_SAFE_NO_PAD.encode(last);
        write!(document, "<NextContinuationToken>{token}</NextContinuationToken>").unwrap();
    }
    for name in &shown {
        match object(&directory.join(name)) {
            Some(metadata) => write!(
                document,
                "<Contents><Key>{}</Key><Generation>{}</Generation><MetaGeneration>1</MetaGeneration>\
                 <LastModified>{:.3}</LastModified><ETag>{}</ETag><Size>{}</Size></Contents>",
                escaped(name),
                generation(&metadata),
                Timestamp::try_from(metadata.modified().unwrap()).unwrap(),
                escaped(&etag(&metadata)),
                metadata.len()
            ),
            None => write!(document, "<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>", escaped(name)),
        }
        .unwrap();
    }
    document.push_str("</ListBucketResult>");
    let mut answer = Response::new(Full::new(document.into()));
    let xml = HeaderValue::from_static("application/xml; charset=UTF-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, xml);
    answer
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Returns the names of all objects. One that was removed meanwhile may be among them or not.
fn keys(directory: &Path) -> Vec<String> {
    let mut keys = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(next) = directories.pop() {
        for entry in fs::read_dir(next).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                directories.push(entry.path());
            } else {
                keys.push(entry.path().strip_prefix(directory).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    keys
}
