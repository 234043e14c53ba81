//! The promises of an archive, tested for each backend that needs no other process.

mod memory {
    use support::{conformance::InMemory, one_by_one, with_all_promises};
    with_all_promises!(one_by_one, InMemory::empty());
}

mod directory {
    use support::{conformance::Directory, one_by_one, with_all_promises};
    with_all_promises!(one_by_one, Directory::empty());
}

/// The S3 server in this process.
mod s3 {
    use support::{conformance::Bucket, one_by_one, with_all_promises};
    with_all_promises!(one_by_one, Bucket::empty());
}

/// The stand-in for Google's server.
mod google {
    use support::{conformance::InGoogle, one_by_one, with_all_promises};
    with_all_promises!(one_by_one, InGoogle::empty());
}
