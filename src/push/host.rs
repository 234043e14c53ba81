//! The name of this host, which archived files record: if two servers share an archive, it says which one wrote a file.

use crate::frame::HostName;

/// Returns the name of this host. Asks the kernel and nobody else: in a container, it is that of the container or pod.
#[must_use]
pub fn this_host() -> Option<HostName> {
    HostName::of(&rustix::system::uname().nodename().to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_has_the_name_that_the_kernel_says() {
        let said = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        assert_eq!(this_host(), HostName::of(said.trim_end()));
    }
}
