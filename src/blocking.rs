//! Execution of blocking work.

/// Runs `work` on a thread of its own, so that signals and the time limit take effect while it blocks: a file system
/// that does not answer must not keep a server from shutting down.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down, together with the caller.
            Err(_) => std::future::pending().await,
        },
    }
}
