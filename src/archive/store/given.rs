//! Object stores provided by code, in place of a provider named by the user.

use std::fmt;
use std::sync::Arc;

use object_store::ObjectStore;

/// An object store in place of the provider that the URL names.
#[derive(Clone)]
pub struct Objects {
    pub(super) objects: Arc<dyn ObjectStore>,
    /// Identity within this process.
    pub(super) identity: usize,
}

/// Omits the content.
impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Objects").field(&self.identity).finish()
    }
}

/// Equal if they are the same store, whatever its content.
impl PartialEq for Objects {
    fn eq(&self, other: &Self) -> bool {
        self.identity == other.identity
    }
}

impl Eq for Objects {}
