//! Ready policies: the rights that a command needs in an archive, in the words of whoever grants them. Pure.
//!
//! Sources: "Actions, resources, and condition keys for Amazon S3" (IAM), "IAM roles for Cloud Storage" (Google), "Azure
//! built-in roles for Storage".

use std::path::Path;

use serde_json::{Value, json};

use crate::archive::{ArchiveOptions, ArchiveUrl, Provider, StorePlace};
use crate::error::Error;

/// What somebody who gets rights will do with the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Archive WAL: `walkeep-archive`, `walkeep backfill`, `walkeep check`.
    Archive,
    /// Read only: `walkeep-restore`, `walkeep list`, `walkeep status`, `walkeep cat`, `walkeep check --restore-only`.
    Restore,
    /// `walkeep prune`.
    Prune,
    /// `walkeep verify`.
    Verify,
}

impl Purpose {
    /// Returns `true` if archived files are created. Reports are written by the last two only.
    fn archives(self) -> bool {
        self == Self::Archive
    }

    fn reports(self) -> bool {
        matches!(self, Self::Prune | Self::Verify)
    }
}

/// Returns the policy, as text for people to hand on. Asks nobody.
pub fn policy(options: &ArchiveOptions, purpose: Purpose) -> Result<String, Error> {
    let place = options.store_place()?;
    Ok(match (&options.url, &place) {
        (_, Some(place)) => match place.provider {
            Provider::S3 => of_s3(place, purpose),
            Provider::Google => of_google(place, purpose),
            Provider::Azure => of_azure(place, purpose),
        },
        (ArchiveUrl::Directory(path), None) => of_directory(path, purpose),
        (url, None) => format!("{url} needs no rights\n"),
    })
}

fn of_s3(place: &StorePlace, purpose: Purpose) -> String {
    let partition = match place.region.as_deref() {
        Some(region) if region.starts_with("cn-") => "aws-cn",
        Some(region) if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    };
    if is_directory_bucket(&place.bucket) {
        return of_s3_express(place, partition, purpose);
    }
    let bucket = format!("arn:{partition}:s3:::{}", place.bucket);
    let below = if place.prefix.is_empty() { bucket.clone() } else { format!("{bucket}/{}", place.prefix) };
    let mut files = vec!["s3:GetObject"];
    files.extend(purpose.archives().then_some("s3:PutObject"));
    files.extend((purpose.archives() && place.tags).then_some("s3:PutObjectTagging"));
    files.extend((purpose == Purpose::Prune).then_some("s3:DeleteObject"));
    let allow = |sid: &str, actions: &[&str], resource: &str| json!({"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resource});
    let mut statements: Vec<Value> = vec![
        allow("WalkeepList", &["s3:ListBucket"], &bucket),
        allow("WalkeepFiles", &files, &format!("{below}/*")),
    ];
    if purpose.reports() {
        statements.push(allow("WalkeepReports", &["s3:PutObject"], &format!("{below}/*/reports/*")));
    }
    statements.extend(of_key(place, purpose));
    let policy = json!({"Version": "2012-10-17", "Statement": statements});
    format!("{policy:#}\n")
}

/// Returns the statement about the key that encrypts the bucket's files.
fn of_key(place: &StorePlace, purpose: Purpose) -> Option<Value> {
    let actions: &[&str] = match purpose {
        Purpose::Restore => &["kms:Decrypt"],
        _ => &["kms:Decrypt", "kms:GenerateDataKey"],
    };
    let key = place.encryption_key.as_ref()?;
    Some(json!({"Sid": "WalkeepKey", "Effect": "Allow", "Action": actions, "Resource": key}))
}

/// Returns `true` for the name of a directory bucket, which S3 Express has.
fn is_directory_bucket(bucket: &str) -> bool {
    bucket.ends_with("--x-s3")
}

/// Returns the policy for S3 Express, which knows no rights but that to a session, of a whole bucket: one that reads, or one that may
/// do everything. A client that asks for no mode gets the most that it is allowed ("Authorizing Zonal endpoint API operations with
/// CreateSession").
fn of_s3_express(place: &StorePlace, partition: &str, purpose: Purpose) -> String {
    let region = place.region.as_deref().unwrap_or("*");
    let mut session = json!({
        "Sid": "WalkeepSession",
        "Effect": "Allow",
        "Action": ["s3express:CreateSession"],
        "Resource": format!("arn:{partition}:s3express:{region}:*:bucket/{}", place.bucket),
    });
    if purpose == Purpose::Restore
        && let Some(fields) = session.as_object_mut()
    {
        let only = json!({"StringEquals": {"s3express:SessionMode": "ReadOnly"}});
        fields.insert("Condition".to_owned(), only);
    }
    let statements: Vec<Value> = std::iter::once(session).chain(of_key(place, purpose)).collect();
    format!("{:#}\n", json!({"Version": "2012-10-17", "Statement": statements}))
}

fn of_google(place: &StorePlace, purpose: Purpose) -> String {
    let StorePlace { bucket, prefix, .. } = place;
    let bind = |role: &str, more: &str| {
        format!(
            "gcloud storage buckets add-iam-policy-binding gs://{bucket} \\\n  \
             --member=serviceAccount:ACCOUNT --role=roles/storage.{role}{more}\n"
        )
    };
    let read = bind("objectViewer", "");
    let below = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
    match purpose {
        Purpose::Restore => read,
        Purpose::Archive => read + &bind("objectCreator", ""),
        Purpose::Prune => bind("objectUser", ""),
        // To replace a report is to delete the one before.
        Purpose::Verify => {
            let of_reports = format!(
                " \\\n  --condition='title=walkeep-reports,expression=resource.name.startsWith(\
                 \"projects/_/buckets/{bucket}/objects/{below}\") && resource.name.endsWith(\"/reports/verify.json\")'"
            );
            read + &bind("objectUser", &of_reports)
        }
    }
}

fn of_azure(place: &StorePlace, purpose: Purpose) -> String {
    let account = place.account.as_deref().unwrap_or("STORAGE_ACCOUNT");
    let group = "/subscriptions/SUBSCRIPTION/resourceGroups/GROUP";
    let scope = format!(
        "{group}/providers/Microsoft.Storage/storageAccounts/{account}/blobServices/default/containers/{}",
        place.bucket
    );
    let assign = |role: &str| {
        format!("az role assignment create --assignee PRINCIPAL --role {role:?} \\\n  --scope {scope}\n")
    };
    match purpose {
        Purpose::Restore => assign("Storage Blob Data Reader"),
        Purpose::Prune => assign("Storage Blob Data Contributor"),
        // No role of Azure's own may write and not delete.
        Purpose::Archive | Purpose::Verify => {
            let blobs = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs";
            let mut actions = vec![format!("{blobs}/read"), format!("{blobs}/write")];
            actions.extend((purpose.archives() && place.tags).then(|| format!("{blobs}/tags/write")));
            let role = json!({
                "Name": "walkeep writer",
                "Description": "Reads and writes blobs, and deletes none",
                "AssignableScopes": [group],
                "Actions": [],
                "DataActions": actions,
            });
            format!("az role definition create --role-definition '{role:#}'\n{}", assign("walkeep writer"))
        }
    }
}

fn of_directory(path: &Path, purpose: Purpose) -> String {
    let path = path.display().to_string();
    let quoted = shlex::try_quote(&path).unwrap_or_default();
    match purpose {
        // An access list that directories hand down goes before the umask. "Others" are shut out in it, because the umask no longer is.
        Purpose::Restore => format!(
            "# {path} is a directory, which has no policy. Whoever restores must be able to read it and all below it, and also\n\
             # what is archived later: its files get the server's umask, so that most often their owner alone can read them.\n\
             # An access list lets a group in, today and later:\n\
             setfacl -R -m g:GROUP:rX,d:g:GROUP:rX,d:o::- {quoted}\n\
             # Where there are no such lists, as on NFS 4: a server whose data directory its group may read (initdb -g, from version 11 on)\n\
             # lets its group read what it archives. Of such a server:\n\
             # chgrp -R GROUP {quoted}\n\
             # chmod -R g+rX {quoted}\n\
             # find {quoted} -type d -exec chmod g+s {{}} +\n"
        ),
        _ => format!(
            "# {path} is a directory, which has no policy. One user owns it and all below it: the one that runs the server,\n\
             # often postgres. All commands run as that user; started as root, they become it.\n\
             chown -R postgres: {quoted}\nchmod u+rwx {quoted}\n"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(provider: Provider, prefix: &str) -> StorePlace {
        StorePlace {
            provider,
            bucket: "wal".to_owned(),
            prefix: prefix.to_owned(),
            region: None,
            account: None,
            encryption_key: None,
            tags: false,
        }
    }

    fn statements(place: &StorePlace, purpose: Purpose) -> Vec<(Vec<String>, String)> {
        let policy: Value = serde_json::from_str(&of_s3(place, purpose)).unwrap();
        assert_eq!(policy["Version"], "2012-10-17");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let statements = policy["Statement"].as_array().unwrap().iter().map(|statement| {
            assert_eq!(statement["Effect"], "Allow");
            (statement["Action"].as_array().unwrap().iter().map(text).collect(), text(&statement["Resource"]))
        });
        statements.collect()
    }

    #[test]
    fn amazons_policy_grants_what_the_purpose_needs_below_the_prefix() {
        let granted = |actions: &[&str], resource: &str| {
            (actions.iter().map(|action| (*action).to_owned()).collect(), resource.to_owned())
        };
        let list = || granted(&["s3:ListBucket"], "arn:aws:s3:::wal");
        let reports = || granted(&["s3:PutObject"], "arn:aws:s3:::wal/main/*/reports/*");
        let place = place(Provider::S3, "main");
        for (purpose, actions, more) in [
            (Purpose::Archive, &["s3:GetObject", "s3:PutObject"][..], None),
            (Purpose::Restore, &["s3:GetObject"], None),
            (Purpose::Prune, &["s3:GetObject", "s3:DeleteObject"], Some(reports())),
            (Purpose::Verify, &["s3:GetObject"], Some(reports())),
        ] {
            let expected: Vec<_> =
                [list(), granted(actions, "arn:aws:s3:::wal/main/*")].into_iter().chain(more).collect();
            assert_eq!(statements(&place, purpose), expected, "{purpose:?}");
        }
    }

    #[test]
    fn a_policy_follows_prefix_region_key_and_tags() {
        let whole = place(Provider::S3, "");
        assert_eq!(statements(&whole, Purpose::Restore)[1].1, "arn:aws:s3:::wal/*");
        for (region, arn) in
            [("cn-north-1", "arn:aws-cn:s3:::wal"), ("us-gov-west-1", "arn:aws-us-gov:s3:::wal")]
        {
            let there = StorePlace { region: Some(region.to_owned()), ..whole.clone() };
            assert_eq!(statements(&there, Purpose::Restore)[0].1, arn);
        }
        let key = Some("arn:aws:kms:eu-west-1:1:key/2".to_owned());
        let special = StorePlace { encryption_key: key, tags: true, ..whole };
        let archive = statements(&special, Purpose::Archive);
        assert!(archive[1].0.contains(&"s3:PutObjectTagging".to_owned()), "{archive:?}");
        assert_eq!(archive[2].0, ["kms:Decrypt", "kms:GenerateDataKey"]);
        assert_eq!(statements(&special, Purpose::Restore)[2].0, ["kms:Decrypt"]);
    }

    #[test]
    fn s3_express_knows_sessions_only_and_one_that_reads_for_restores() {
        let express = StorePlace {
            bucket: "wal--usw2-az1--x-s3".to_owned(),
            region: Some("us-west-2".to_owned()),
            encryption_key: Some("arn:aws:kms:us-west-2:1:key/2".to_owned()),
            ..place(Provider::S3, "main")
        };
        for purpose in [Purpose::Archive, Purpose::Restore, Purpose::Prune, Purpose::Verify] {
            let granted = statements(&express, purpose);
            let arn = "arn:aws:s3express:us-west-2:*:bucket/wal--usw2-az1--x-s3";
            assert_eq!(
                granted[0],
                (vec!["s3express:CreateSession".to_owned()], arn.to_owned()),
                "{purpose:?}"
            );
            assert!(granted[1].0.contains(&"kms:Decrypt".to_owned()), "{purpose:?}");
            let reads_only = of_s3(&express, purpose).contains("\"s3express:SessionMode\": \"ReadOnly\"");
            assert_eq!(reads_only, purpose == Purpose::Restore, "{purpose:?}");
        }
    }

    #[test]
    fn google_and_azure_are_told_by_commands() {
        let google = |purpose| of_google(&place(Provider::Google, "main"), purpose);
        assert!(
            google(Purpose::Archive).contains("gs://wal")
                && google(Purpose::Archive).contains("objectCreator")
        );
        assert!(!google(Purpose::Restore).contains("objectCreator"));
        assert!(google(Purpose::Prune).contains("roles/storage.objectUser"));
        let condition = "startsWith(\"projects/_/buckets/wal/objects/main/\")";
        assert!(google(Purpose::Verify).contains(condition), "{}", google(Purpose::Verify));
        let azure = |purpose| {
            let account = Some("me".to_owned());
            of_azure(&StorePlace { account, tags: true, ..place(Provider::Azure, "main") }, purpose)
        };
        let scope = "storageAccounts/me/blobServices/default/containers/wal";
        for purpose in [Purpose::Archive, Purpose::Restore, Purpose::Prune, Purpose::Verify] {
            assert!(azure(purpose).contains(scope), "{purpose:?}");
        }
        assert!(azure(Purpose::Archive).contains("blobs/tags/write"));
        assert!(azure(Purpose::Verify).contains("blobs/write") && !azure(Purpose::Verify).contains("tags"));
        assert!(azure(Purpose::Prune).contains("Contributor") && azure(Purpose::Restore).contains("Reader"));
    }

    #[test]
    fn a_directory_has_an_owner_instead() {
        let text = |purpose| of_directory(Path::new("/mnt/my archive"), purpose);
        assert!(text(Purpose::Archive).contains("chown -R postgres: '/mnt/my archive'"));
        assert!(text(Purpose::Restore).contains("d:g:GROUP:rX,d:o::- '/mnt/my archive'"));
    }
}
