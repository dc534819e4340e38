//! Tells systemd how it goes: `sd_notify`, one datagram each. The crate `sd-notify` does no more for us than this file.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// How often the watchdog of systemd wants a word, at `WatchdogSec=60`: well within its half.
pub(super) const PET_EVERY: Duration = Duration::from_secs(15);

/// It is started; `status` is shown by `systemctl status`.
pub(super) fn ready(status: &str) {
    send(&format!("READY=1\nSTATUS={}", one_line(status)));
}

/// It works.
pub(super) fn pet() {
    send("WATCHDOG=1");
}

/// The line of `systemctl status`.
pub(super) fn status(status: &str) {
    send(&format!("STATUS={}", one_line(status)));
}

/// It is about to end.
pub(super) fn stopping() {
    send("STOPPING=1");
}

fn one_line(text: &str) -> String {
    text.replace('\n', " ")
}

/// Without systemd there is no socket, and no one to tell.
fn send(message: &str) {
    let Ok(path) = std::env::var("NOTIFY_SOCKET") else { return };
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    if let (Ok(address), Ok(socket)) = (address, UnixDatagram::unbound()) {
        let _ = socket.send_to_addr(message.as_bytes(), &address);
    }
}
