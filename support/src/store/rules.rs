//! Differences of s3s-fs from the stores that it replaces, or from those that a test needs.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use async_trait::async_trait;
use futures_util::StreamExt;
use s3s::{
    S3Request, S3Result,
    access::{S3Access, S3AccessContext},
    auth::{S3Auth, SecretKey},
    dto::PutObjectInput,
    path::S3Path,
    s3_error,
};

use super::{ACCESS_KEY, SECRET_KEY};

/// Treatment of `If-None-Match` when an object is stored.
#[derive(Clone, Copy)]
pub(super) enum Conditions {
    Honoured,
    Ignored,
    Refused,
}

/// Applied to each request after its signature was verified.
#[derive(Clone)]
pub(super) struct Rules {
    root: PathBuf,
    conditions: Arc<Mutex<Conditions>>,
    hides_absence: Arc<AtomicBool>,
}

impl Rules {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            conditions: Arc::new(Mutex::new(Conditions::Honoured)),
            hides_absence: Arc::default(),
        }
    }

    /// Answers about an object that does not exist as Amazon does to whoever may not list the bucket.
    pub(super) fn hide_absence(&self) {
        self.hides_absence.store(true, SeqCst);
    }

    pub(super) fn set_conditions(&self, conditions: Conditions) {
        *self.conditions.lock().unwrap() = conditions;
    }
}

#[async_trait]
impl S3Access for Rules {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        if context.credentials().is_none() {
            return Err(s3_error!(AccessDenied));
        }
        match context.s3_path() {
            // s3s-fs answers a GET with NoSuchKey, and creates the bucket for a PUT.
            S3Path::Bucket { bucket } | S3Path::Object { bucket, .. }
                if !self.root.join(&**bucket).is_dir() =>
            {
                Err(s3_error!(NoSuchBucket))
            }
            S3Path::Object { bucket, key }
                if self.hides_absence.load(SeqCst)
                    && matches!(context.s3_op().name(), "GetObject" | "HeadObject")
                    && !self.root.join(&**bucket).join(&**key).is_file() =>
            {
                Err(s3_error!(AccessDenied, "Access Denied"))
            }
            // A directory of s3s-fs is a prefix of keys, not an object.
            S3Path::Object { bucket, key }
                if matches!(context.s3_op().name(), "GetObject" | "HeadObject")
                    && self.root.join(&**bucket).join(&**key).is_dir() =>
            {
                Err(s3_error!(NoSuchKey))
            }
            _ => Ok(()),
        }
    }

    async fn put_object(&self, request: &mut S3Request<PutObjectInput>) -> S3Result<()> {
        let conditions = *self.conditions.lock().unwrap();
        match conditions {
            Conditions::Refused if request.input.if_none_match.is_some() => {
                // With an unread body, the connection would be reset, and the response sometimes lost.
                if let Some(mut body) = request.input.body.take() {
                    while body.next().await.is_some() {}
                }
                Err(s3_error!(
                    NotImplemented,
                    "A header you provided implies functionality that is not implemented"
                ))
            }
            // Removed only here, because the header is part of the signature.
            Conditions::Ignored => {
                request.input.if_none_match = None;
                Ok(())
            }
            Conditions::Honoured | Conditions::Refused => Ok(()),
        }
    }
}

/// Provider of the only key. s3s's own one answers for others with a code that no store uses.
pub(super) struct OneKey;

#[async_trait]
impl S3Auth for OneKey {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        if access_key == ACCESS_KEY {
            Ok(SECRET_KEY.into())
        } else {
            Err(s3_error!(
                InvalidAccessKeyId,
                "The AWS Access Key Id you provided does not exist in our records."
            ))
        }
    }
}
