//! The connection string of an Azure storage account. Pure.
//!
//! Source: "Configure Azure Storage connection strings" in Microsoft's documentation.

/// Parts that mean something to other services only.
const OTHERS: [&str; 8] = [
    "queueendpoint",
    "tableendpoint",
    "fileendpoint",
    "blobsecondaryendpoint",
    "queuesecondaryendpoint",
    "tablesecondaryendpoint",
    "filesecondaryendpoint",
    "developmentstorageproxyuri",
];

/// Returns the settings that a connection string stands for, by the builder's names. The error quotes no value.
pub(super) fn settings(text: &str) -> Result<Vec<(&'static str, String)>, String> {
    let (mut name, mut key, mut signature, mut endpoint) = (None, None, None, None);
    let (mut protocol, mut suffix, mut emulator) = ("https", "core.windows.net", false);
    for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        let (what, value) = part.split_once('=').ok_or("a part of it is not of the form Name=Value")?;
        let (what, value) = (what.trim().to_ascii_lowercase(), value.trim());
        match &*what {
            "accountname" => name = Some(value.to_owned()),
            "accountkey" => key = Some(value.to_owned()),
            "sharedaccesssignature" => signature = Some(value.trim_start_matches('?').to_owned()),
            "blobendpoint" => endpoint = Some(value.trim_end_matches('/').to_owned()),
            "defaultendpointsprotocol" if ["http", "https"].contains(&value) => protocol = value,
            "defaultendpointsprotocol" => {
                return Err("DefaultEndpointsProtocol must be https or http".to_owned());
            }
            "endpointsuffix" => suffix = value,
            "usedevelopmentstorage" => emulator = value.eq_ignore_ascii_case("true"),
            other if OTHERS.contains(&other) => {}
            _ => return Err("it has a part that is none of a storage account's".to_owned()),
        }
    }
    if emulator {
        return Ok(vec![("azure_storage_use_emulator", "true".to_owned())]);
    }
    let Some(name) = name.or_else(|| endpoint.as_deref().and_then(account)) else {
        return Err("it has neither AccountName nor a BlobEndpoint that begins with it".to_owned());
    };
    // The machine's own identity would be asked instead.
    if key.is_none() && signature.is_none() {
        return Err("it has neither AccountKey nor SharedAccessSignature".to_owned());
    }
    let endpoint = endpoint.unwrap_or_else(|| format!("{protocol}://{name}.blob.{suffix}"));
    let found = [
        ("azure_storage_account_name", Some(name)),
        ("azure_storage_account_key", key),
        ("azure_storage_sas_key", signature),
        ("azure_storage_endpoint", Some(endpoint)),
    ];
    Ok(found.into_iter().filter_map(|(name, value)| Some((name, value?))).collect())
}

/// Returns the account that an endpoint names: in its host, or as its path if the host is a number.
fn account(endpoint: &str) -> Option<String> {
    let url = url::Url::parse(endpoint).ok()?;
    match url.host()? {
        url::Host::Domain(domain) => domain.split_once('.').map(|(account, _)| account.to_owned()),
        _ => url.path_segments()?.next().filter(|account| !account.is_empty()).map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> Vec<(&'static str, String)> {
        settings(text).unwrap()
    }

    #[test]
    fn the_parts_of_a_connection_string_become_settings() {
        let name = ("azure_storage_account_name", "me".to_owned());
        let key = ("azure_storage_account_key", "c2VjcmV0==".to_owned());
        let at = |endpoint: &str| ("azure_storage_endpoint", endpoint.to_owned());
        assert_eq!(
            set(
                "DefaultEndpointsProtocol=https;AccountName=me;AccountKey=c2VjcmV0==;EndpointSuffix=core.windows.net"
            ),
            [name.clone(), key.clone(), at("https://me.blob.core.windows.net")]
        );
        assert_eq!(
            set("accountname=me; AccountKey=c2VjcmV0==;EndpointSuffix=core.chinacloudapi.cn;"),
            [name.clone(), key.clone(), at("https://me.blob.core.chinacloudapi.cn")]
        );
        let signature = ("azure_storage_sas_key", "sv=2024&sig=s%3D".to_owned());
        assert_eq!(
            set(
                "BlobEndpoint=https://me.blob.core.windows.net/;QueueEndpoint=https://me.queue.core.windows.net/;\
                 SharedAccessSignature=?sv=2024&sig=s%3D"
            ),
            [name.clone(), signature, at("https://me.blob.core.windows.net")]
        );
        assert_eq!(
            set("BlobEndpoint=http://127.0.0.1:10000/me;AccountKey=c2VjcmV0=="),
            [name, key, at("http://127.0.0.1:10000/me")]
        );
        assert_eq!(set("UseDevelopmentStorage=true"), [("azure_storage_use_emulator", "true".to_owned())]);
    }

    #[test]
    fn a_wrong_connection_string_is_not_quoted() {
        for (text, why) in [
            ("s3cret", "Name=Value"),
            ("AccountKey=s3cret", "neither AccountName"),
            ("AccountName=me;s3cret=s3cret", "none of a storage account's"),
            ("DefaultEndpointsProtocol=s3cret", "must be https or http"),
            ("BlobEndpoint=s3cret", "neither AccountName"),
            ("AccountName=s3cret", "neither AccountKey"),
            ("", "neither AccountName"),
        ] {
            let error = settings(text).unwrap_err();
            assert!(error.contains(why) && !error.contains("s3cret"), "{text}: {error}");
        }
    }
}
