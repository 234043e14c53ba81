//! Where blocking work goes.

/// Runs `work` on a thread of its own, so that signals and the time limit are heeded while it blocks: a file system
/// that does not answer must not keep a server from shutting down.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The task was cancelled because the runtime is going away, and with it whoever waits here.
            Err(_) => std::future::pending().await,
        },
    }
}
