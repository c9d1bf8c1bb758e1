use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    platform::run().await
}
